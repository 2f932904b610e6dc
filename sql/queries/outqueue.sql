-- name: list
-- Deliveries for an operator, oldest first. $1: a domain that sends or receives, or null; $2: states; $3: after this id;
-- $4: rows; $5: a destination or a site, or null.
SELECT d.id, o.name AS domain, d.kind, d.envelope_from, d.recipient, d.destination, d.state, d.attempts,
       d.created_at, d.last_attempt_at, d.next_attempt_at, d.last_reply, d.last_host
FROM deliveries d JOIN domains o ON o.id = d.domain_id
WHERE d.state = ANY ($2) AND ($1::text IS NULL OR o.name = $1 OR d.destination = $1) AND ($3::uuid IS NULL OR d.id > $3)
  AND ($5::text IS NULL OR d.destination = $5
       OR EXISTS (SELECT FROM destinations t WHERE t.name = d.destination AND t.site = $5))
ORDER BY d.id LIMIT $4;

-- name: show
-- One delivery with all that is known of it.
SELECT d.id, o.name AS domain, d.kind, d.envelope_from, d.recipient, d.destination, d.state, d.attempts,
       d.created_at, d.last_attempt_at, d.next_attempt_at, d.last_reply, d.last_host, d.settled_at,
       d.email_id, d.domain_id, d.rule_id, d.message_id, d.lease_owner, d.lease_until, d.options,
       m.raw_size AS size, m.subject, m.rfc_message_id, t.site, s.parked_until, s.problem, s.paused_at
FROM deliveries d
JOIN domains o ON o.id = d.domain_id
JOIN messages m ON m.id = d.message_id
LEFT JOIN destinations t ON t.name = d.destination
LEFT JOIN destinations s ON s.name = coalesce(t.site, d.destination)
WHERE d.id = $1;

-- name: events_of
-- What happened to one delivery of an email, oldest first.
SELECT type, at, detail FROM events WHERE email_id = $1 AND delivery_id = $2 ORDER BY id LIMIT 500;

-- name: events_of_other
-- What happened to a delivery that belongs to no email: found among its domain's events since it was made.
SELECT type, at, detail FROM events WHERE domain_id = $1 AND delivery_id = $2 AND id > $3 ORDER BY id LIMIT 500;

-- name: retry
-- What waits is due now.
UPDATE deliveries SET next_attempt_at = $2 WHERE id = ANY ($1) AND state IN ('queued', 'deferred') RETURNING id;

-- name: hold
-- What waits stays until it is released.
UPDATE deliveries SET state = 'held' WHERE id = ANY ($1) AND state IN ('queued', 'deferred') RETURNING id;

-- name: release
-- What was held goes on, now.
UPDATE deliveries SET state = 'queued', next_attempt_at = $2 WHERE id = ANY ($1) AND state = 'held' RETURNING id;

-- name: drop
-- What waits or is held will not be sent.
UPDATE deliveries SET state = 'cancelled', settled_at = $2
WHERE id = ANY ($1) AND state IN ('queued', 'deferred', 'held')
RETURNING id;

-- name: wake
-- Tells the workers that something is due.
SELECT pg_notify('deliveries', '');

-- name: top
-- Where mail waits: by site, the most first. A domain may be paused at a site that is open.
SELECT w.site, w.waiting, w.due, w.deferred, w.leased, w.held, w.domains, w.oldest, w.next_attempt_at, w.paused_domains,
       s.parked_until, s.failures, s.problem, s.paused_at, s.pause_reason
FROM (
    SELECT coalesce(t.site, d.destination) AS site,
           count(*) FILTER (WHERE d.state IN ('queued', 'deferred')) AS waiting,
           count(*) FILTER (WHERE d.state IN ('queued', 'deferred') AND d.next_attempt_at <= $1) AS due,
           count(*) FILTER (WHERE d.state = 'deferred') AS deferred,
           count(*) FILTER (WHERE d.state = 'leased') AS leased,
           count(*) FILTER (WHERE d.state = 'held') AS held,
           count(DISTINCT d.destination) AS domains,
           min(d.created_at) AS oldest,
           min(d.next_attempt_at) FILTER (WHERE d.state IN ('queued', 'deferred')) AS next_attempt_at,
           array_agg(DISTINCT t.name) FILTER (WHERE t.paused_at IS NOT NULL AND t.name <> t.site) AS paused_domains
    FROM (
        -- One part for each partial index.
        SELECT * FROM deliveries WHERE state IN ('queued', 'deferred')
        UNION ALL SELECT * FROM deliveries WHERE state = 'leased'
        UNION ALL SELECT * FROM deliveries WHERE state = 'held'
    ) AS d
    LEFT JOIN destinations t ON t.name = d.destination
    GROUP BY 1
) AS w
LEFT JOIN destinations s ON s.name = w.site
ORDER BY w.waiting + w.leased DESC, w.site LIMIT $2;

-- name: measure
-- The depth of the queue and its oldest row, for metrics. One part for each partial index.
SELECT state, count(*) AS deliveries, min(created_at) AS oldest FROM deliveries
WHERE state IN ('queued', 'deferred') GROUP BY state
UNION ALL
SELECT 'leased', count(*), min(created_at) FROM deliveries WHERE state = 'leased' HAVING count(*) > 0
UNION ALL
SELECT 'held', count(*), min(created_at) FROM deliveries WHERE state = 'held' HAVING count(*) > 0;
