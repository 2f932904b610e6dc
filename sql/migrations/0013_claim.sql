-- The queue at size: what a claim asks, and how soon what it leaves behind is cleared.

-- What a claim may take for a destination: its site, and how many rows there is room for (0 while parked or paused).
-- rooms: what the caller knows, by site; otherwise: what any other site takes. JSON, because a key is found in it by
-- halves, and a busy process knows thousands of sites. Inlined by the planner, so it costs two index probes. It stands
-- in for site_room, which looks through two lists from their beginnings.
CREATE FUNCTION room_for(destination text, at timestamptz, rooms jsonb, otherwise integer)
RETURNS TABLE (site text, free integer)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT known.site,
           CASE WHEN known.closed THEN 0 ELSE coalesce((rooms ->> known.site)::integer, otherwise) END
    FROM (
        SELECT coalesce(d.site, room_for.destination) AS site,
               d.paused_at IS NOT NULL OR s.paused_at IS NOT NULL
               OR coalesce(d.parked_until > at, false) OR coalesce(s.parked_until > at, false) AS closed
        FROM (VALUES (1)) AS one
        LEFT JOIN destinations d ON d.name = room_for.destination
        LEFT JOIN destinations s ON s.name = coalesce(d.site, room_for.destination)
    ) AS known;
END;

-- Each claim and each result leaves a dead row behind, and claims look where the oldest ones are: at the default, a fifth
-- of the table, they would step over 200,000 of them for each batch when a million rows wait. Their entries lie close
-- together, on so few pages that a vacuum would otherwise leave the indexes for later.
ALTER TABLE deliveries SET (autovacuum_vacuum_scale_factor = 0.02, vacuum_index_cleanup = on);
