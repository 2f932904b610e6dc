-- name: claim
-- Takes a batch of due deliveries under a lease, fairly between destinations and between tenants.
--   $1 owner  $2 now  $3 lease until  $4 rows wanted
--   $5, $6 where the ring of lanes (destination, tenant) goes on    $7 where the ring of tenants goes on
--   $8 how many rows each site has room for, as JSON; a site that is not named has room for $9
--   $10 messages of up to so many bytes come along
--   $11 much was due a moment ago: the oldest rows are not looked at, they lie behind all that was claimed meanwhile
-- Little is fewer than 200 rows, and a ring is walked 32 steps at a time (RING_STEPS). These numbers are written out: a
-- LIMIT that is a parameter looks so dear to the planner that it plans anew for each call, which takes two milliseconds.
-- Ranges are compared as whole rows even where a column is the same on both ends: only one index is in that order, so
-- that whatever the statistics say the planner has no other way through the queue, past everybody else's rows.
-- One row always comes back, with the ring positions to go on from and whether little was due; and where nothing was
-- claimed, when there will be something to do that is not yet due: a retry, or a destination whose parking ends.
WITH RECURSIVE
-- When fewer than 200 rows are due in all, they are the candidates, and no ring is walked.
oldest AS MATERIALIZED (
    SELECT d.id, d.message_id, d.envelope_from, d.destination, d.domain_id, d.next_attempt_at FROM deliveries d
    WHERE NOT (SELECT $11::boolean) AND d.state IN ('queued', 'deferred')
      AND d.next_attempt_at <= (SELECT $2::timestamptz)
    ORDER BY d.next_attempt_at LIMIT 200
),
little AS MATERIALIZED (SELECT NOT (SELECT $11::boolean) AND count(*) < 200 AS is_all FROM oldest),
-- A loose index scan over deliveries_due: one probe a lane. A site that takes nothing now is left in one step.
lanes (destination, domain_id, since, site, free, step) AS (
    SELECT l.* FROM little CROSS JOIN LATERAL (
        SELECT first.*, open.site, open.free, 1 AS step
        FROM (
            SELECT d.destination, d.domain_id, d.next_attempt_at FROM deliveries d
            WHERE d.state IN ('queued', 'deferred') AND (d.destination, d.domain_id) > ($5::text, $6::uuid)
            ORDER BY d.destination, d.domain_id, d.next_attempt_at LIMIT 1
        ) AS first
        CROSS JOIN LATERAL (SELECT * FROM room_for(first.destination, $2, $8, $9)) AS open
    ) AS l
    WHERE NOT little.is_all
  UNION ALL
    SELECT next.*, open.site, open.free, lanes.step + 1
    FROM lanes
    CROSS JOIN LATERAL (
        SELECT d.destination, d.domain_id, d.next_attempt_at FROM deliveries d
        WHERE d.state IN ('queued', 'deferred')
          AND (d.destination, d.domain_id) > (lanes.destination,
              CASE WHEN lanes.free > 0 THEN lanes.domain_id ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
        ORDER BY d.destination, d.domain_id, d.next_attempt_at LIMIT 1
    ) AS next
    CROSS JOIN LATERAL (SELECT * FROM room_for(next.destination, $2, $8, $9)) AS open
    WHERE lanes.step < 32
),
-- The same over deliveries_of_tenant, so that a tenant with one mail need not wait for another's thousand lanes.
tenants (domain_id, since, step) AS (
    SELECT t.* FROM little CROSS JOIN LATERAL (
        SELECT d.domain_id, d.next_attempt_at, 1 AS step FROM deliveries d
        WHERE d.state IN ('queued', 'deferred') AND d.domain_id > $7::uuid
        ORDER BY d.domain_id, d.next_attempt_at LIMIT 1
    ) AS t
    WHERE NOT little.is_all
  UNION ALL
    SELECT next.*, tenants.step + 1
    FROM tenants
    CROSS JOIN LATERAL (
        SELECT d.domain_id, d.next_attempt_at FROM deliveries d
        WHERE d.state IN ('queued', 'deferred') AND d.domain_id > tenants.domain_id
        ORDER BY d.domain_id, d.next_attempt_at LIMIT 1
    ) AS next
    WHERE tenants.step < 32
),
shares AS MATERIALIZED (
    SELECT greatest(1, $4 / greatest(1, (SELECT count(*) FROM lanes WHERE free > 0 AND since <= $2))) AS of_lane,
           greatest(1, $4 / greatest(1, (SELECT count(*) FROM tenants WHERE since <= $2))) AS of_tenant
),
-- Each walk has passed what is dead at the head of a lane or tenant; its first row is where these begin.
found AS (
    SELECT oldest.* FROM oldest CROSS JOIN little WHERE little.is_all
  UNION
    SELECT head.* FROM lanes CROSS JOIN LATERAL (SELECT * FROM (
        SELECT d.id, d.message_id, d.envelope_from, d.destination, d.domain_id, d.next_attempt_at FROM deliveries d
        WHERE d.state IN ('queued', 'deferred')
          AND (d.destination, d.domain_id, d.next_attempt_at) BETWEEN (lanes.destination, lanes.domain_id, lanes.since)
                                                                  AND (lanes.destination, lanes.domain_id, $2)
        ORDER BY d.destination, d.domain_id, d.next_attempt_at LIMIT (SELECT least(of_lane, lanes.free) FROM shares)
    ) AS heads LIMIT 200) AS head
    WHERE lanes.free > 0 AND lanes.since <= $2
  UNION
    SELECT head.* FROM tenants CROSS JOIN LATERAL (SELECT * FROM (
        SELECT d.id, d.message_id, d.envelope_from, d.destination, d.domain_id, d.next_attempt_at FROM deliveries d
        WHERE d.state IN ('queued', 'deferred')
          AND (d.domain_id, d.next_attempt_at) BETWEEN (tenants.domain_id, tenants.since) AND (tenants.domain_id, $2)
        ORDER BY d.domain_id, d.next_attempt_at LIMIT (SELECT of_tenant FROM shares)
    ) AS heads LIMIT 200) AS head
    WHERE tenants.since <= $2
),
-- In turns: a lane's first row before any lane's second, a tenant's first before any tenant's second.
candidates AS (
    SELECT f.*, open.site, open.free,
           row_number() OVER (PARTITION BY f.destination, f.domain_id ORDER BY f.next_attempt_at) AS turn
    FROM found f CROSS JOIN LATERAL (SELECT * FROM room_for(f.destination, $2, $8, $9)) AS open
    WHERE open.free > 0
),
placed AS (
    SELECT c.*, row_number() OVER (PARTITION BY c.site ORDER BY c.turn, c.next_attempt_at) AS place FROM candidates c
),
chosen AS (
    SELECT p.id, p.message_id, p.destination, p.envelope_from FROM (
        SELECT *, row_number() OVER (PARTITION BY domain_id ORDER BY place, next_attempt_at) AS tenant_turn
        FROM placed WHERE place <= free
    ) AS p
    ORDER BY p.tenant_turn, p.place LIMIT $4
),
-- Other recipients of the same message at the same destination go along in one SMTP transaction.
along AS (
    SELECT sibling.id
    FROM (SELECT DISTINCT message_id, destination, envelope_from FROM chosen) AS c
    CROSS JOIN LATERAL (
        SELECT s.id FROM deliveries s
        WHERE s.message_id = c.message_id AND s.destination = c.destination AND s.envelope_from = c.envelope_from
          AND s.state IN ('queued', 'deferred') AND s.next_attempt_at <= $2
        LIMIT 100
    ) AS sibling
    LIMIT $4
),
locked AS MATERIALIZED (
    SELECT d.id FROM deliveries d
    WHERE d.id = ANY (ARRAY(SELECT id FROM chosen UNION SELECT id FROM along))
      AND d.state IN ('queued', 'deferred') AND d.next_attempt_at <= $2
    FOR UPDATE SKIP LOCKED
),
claimed AS (
    UPDATE deliveries d
    SET state = 'leased', lease_owner = $1, lease_fence = d.lease_fence + 1, lease_until = $3
    WHERE d.id = ANY (ARRAY(SELECT id FROM locked)) AND d.state IN ('queued', 'deferred')
    RETURNING d.id, d.organisation_id, d.domain_id, d.inbox_id, d.email_id, d.rule_id, d.message_id, d.kind,
              d.envelope_from, d.recipient, d.destination, d.attempts, d.created_at, d.prefix, d.options,
              d.lease_owner, d.lease_fence, d.delay_noticed
)
SELECT little.is_all,
       last_lane.destination AS lane_destination, last_lane.step AS lane_step,
       CASE WHEN last_lane.free > 0 THEN last_lane.domain_id ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END
           AS lane_domain,
       last_tenant.domain_id AS tenant, last_tenant.step AS tenant_step,
       CASE WHEN NOT EXISTS (SELECT FROM claimed) THEN least(
           (SELECT d.next_attempt_at FROM deliveries d
            WHERE d.state IN ('queued', 'deferred') AND d.next_attempt_at > $2 ORDER BY d.next_attempt_at LIMIT 1),
           (SELECT min(s.parked_until) FROM destinations s WHERE s.parked_until > $2)) END AS next_due,
       claimed.*, m.raw_size, CASE WHEN m.raw_size <= $10 THEN m.raw END AS raw
FROM little
LEFT JOIN (SELECT * FROM lanes ORDER BY step DESC LIMIT 1) AS last_lane ON true
LEFT JOIN (SELECT * FROM tenants ORDER BY step DESC LIMIT 1) AS last_tenant ON true
LEFT JOIN claimed ON true
LEFT JOIN messages m ON m.id = claimed.message_id;

-- name: renew
-- The heartbeat: everything this owner still holds, in one statement. Rows not in the answer were lost. Here and below an
-- owner says that a row is leased (constraint deliveries_lease). Asked for by its state it would be looked for in the
-- index of leases, past all that lie there dead while somebody's long transaction, a backup's, keeps them.
UPDATE deliveries SET lease_until = $3
WHERE id = ANY ($2) AND lease_owner = $1
RETURNING id;

-- name: take_over
-- Puts back what a dead owner held; the next claim counts the fence up, so his late results no longer fit.
WITH expired AS (
    SELECT d.id, d.lease_owner FROM deliveries d
    WHERE d.state = 'leased' AND d.lease_until <= $1
    ORDER BY d.lease_until LIMIT $2
    FOR UPDATE SKIP LOCKED
)
UPDATE deliveries d
SET state = CASE WHEN d.attempts = 0 THEN 'queued' ELSE 'deferred' END,
    lease_owner = NULL, lease_until = NULL, next_attempt_at = $1
FROM expired
WHERE d.id = expired.id AND d.state = 'leased'
RETURNING d.id, d.organisation_id, d.domain_id, d.inbox_id, d.email_id, d.recipient, d.destination,
          expired.lease_owner AS old_owner;

-- name: release
-- Gives rows back that were claimed and not tried (a parked site, a shutdown): no attempt is counted.
UPDATE deliveries d
SET state = CASE WHEN d.attempts = 0 THEN 'queued' ELSE 'deferred' END,
    lease_owner = NULL, lease_until = NULL, next_attempt_at = given.at
FROM unnest($2::uuid[], $3::bigint[], $4::timestamptz[]) AS given (id, fence, at)
WHERE d.id = given.id AND d.lease_fence = given.fence AND d.lease_owner = $1
RETURNING d.id;

-- name: settle
-- Writes the results of a batch of attempts and their events, each only while its lease still holds.
--   $1 owner  $2 now  $3 the results  $4 their events
-- A success also ends the count of an address's soft bounces.
WITH given AS (
    SELECT * FROM unnest($3::delivery_result[])
),
moved AS (
    UPDATE deliveries d
    SET state = g.state, lease_owner = NULL, lease_until = NULL,
        attempts = d.attempts + g.tried,
        next_attempt_at = coalesce(g.next_attempt_at, d.next_attempt_at),
        last_attempt_at = $2::timestamptz,
        last_reply = g.reply, last_reply_by = g.reply_by, last_host = g.host,
        notice = g.notice, delay_noticed = d.delay_noticed OR g.delay_noticed,
        settled_at = CASE WHEN g.state IN ('queued', 'deferred') THEN NULL ELSE $2::timestamptz END
    FROM given g
    WHERE d.id = g.id AND d.lease_fence = g.fence AND d.lease_owner = $1
    RETURNING d.id, d.organisation_id, d.domain_id, d.inbox_id, d.email_id, d.recipient, d.state, d.kind
),
told AS (
    INSERT INTO events (id, organisation_id, domain_id, inbox_id, email_id, delivery_id, type, recipient, detail, at)
    SELECT event_id(e.id), m.organisation_id, m.domain_id, m.inbox_id, m.email_id, m.id, e.type, m.recipient, e.detail,
           $2::timestamptz
    FROM unnest($4::result_event[]) AS e
    JOIN moved m ON m.id = e.delivery_id
),
forgiven AS (
    DELETE FROM suppressions s USING moved m
    WHERE m.state = 'delivered' AND m.kind = 'send'
      AND s.domain_id = m.domain_id AND s.address = lower(m.recipient COLLATE "C") AND NOT s.active
)
SELECT id FROM moved;

-- name: body
-- The bytes of a message that was too large to come with its claim.
SELECT coalesce(raw, pieces_of(id)) FROM messages WHERE id = $1;
