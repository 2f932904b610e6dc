-- The way out: what is known of destinations, of their transport security, and how TLS went.

-- A notice is written into the sender's inbox in a transaction of its own; this finds those still to be written.
CREATE INDEX deliveries_notices ON deliveries (id) WHERE notice IS NOT NULL;

-- A destination is a domain that mail is sent to, or a site: the set of MX hosts that many domains share.
-- Pacing goes by site, so a domain's row says which site it was last seen at; a site's row names itself.
CREATE TABLE destinations (
    name          text PRIMARY KEY,
    site          text NOT NULL,
    parked_until  timestamptz,                  -- nobody answers there: left alone until then
    failures      integer NOT NULL DEFAULT 0,   -- times parked in a row; the next time is longer
    problem       text NOT NULL DEFAULT '',     -- why it is parked
    paused_at     timestamptz,                  -- an operator stopped it
    pause_reason  text NOT NULL DEFAULT '',
    updated_at    timestamptz NOT NULL
);
CREATE INDEX destinations_of_site ON destinations (site);

-- MTA-STS policies as fetched (RFC 8461 section 5.1: a cached policy outlives a fetch that fails).
CREATE TABLE mta_sts_policies (
    domain      text PRIMARY KEY,
    policy_id   text NOT NULL,                  -- id of the TXT record it was fetched for
    policy      text NOT NULL,                  -- the file as served
    fetched_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL
);

-- Counts for TLS reports (RFC 8460 section 4.3): sessions by day, policy, host and result.
CREATE TABLE tls_results (
    day            date NOT NULL,
    policy_domain  text NOT NULL,
    policy_type    text NOT NULL CHECK (policy_type IN ('sts', 'tlsa', 'no-policy-found')),
    mx_host        text NOT NULL,
    result         text NOT NULL,               -- "successful", or a result type of RFC 8460 section 4.3.1 and 4.3.2
    sessions       bigint NOT NULL,
    PRIMARY KEY (day, policy_domain, policy_type, mx_host, result)
);

-- What a claim may take for a destination: its site, and how many rows there is room for (0 while parked or paused).
-- Inlined by the planner, so it costs two index probes. $3, $4: room that the caller knows of; $5: room otherwise.
CREATE FUNCTION site_room(destination text, at timestamptz, sites text[], room integer[], otherwise integer)
RETURNS TABLE (site text, free integer)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT known.site,
           CASE WHEN known.closed THEN 0 ELSE coalesce(room[array_position(sites, known.site)], otherwise) END
    FROM (
        SELECT coalesce(d.site, site_room.destination) AS site,
               d.paused_at IS NOT NULL OR s.paused_at IS NOT NULL
               OR coalesce(d.parked_until > at, false) OR coalesce(s.parked_until > at, false) AS closed
        FROM (VALUES (1)) AS one
        LEFT JOIN destinations d ON d.name = site_room.destination
        LEFT JOIN destinations s ON s.name = coalesce(d.site, site_room.destination)
    ) AS known;
END;

-- What comes back for a forward names only its rewritten sender and the recipient.
CREATE INDEX deliveries_forwards ON deliveries (envelope_from, recipient) WHERE kind = 'forward';

-- Held mail is rare and stays; operators look for it. What waits or is leased has indexes already.
CREATE INDEX deliveries_held ON deliveries (id) WHERE state = 'held';
