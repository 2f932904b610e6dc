-- name: open_endpoints
-- The next 64 endpoints behind $1 for which something waits, those with the lowest ids first, and when that is due: a loose
-- index scan, one probe an endpoint, so that one with a million events hides nobody. Those that may be told something now
-- ($2) are locked, and whoever claims beside us leaves them to us; the others say when there will be something to do.
WITH RECURSIVE walk (webhook_id, since, step) AS (
    SELECT first.*, 1 FROM (
        SELECT d.webhook_id, d.next_attempt_at FROM webhook_deliveries d
        WHERE d.state = 'waiting' AND d.webhook_id > $1::uuid
        ORDER BY d.webhook_id, d.next_attempt_at LIMIT 1
    ) AS first
  UNION ALL
    SELECT next.*, walk.step + 1 FROM walk CROSS JOIN LATERAL (
        SELECT d.webhook_id, d.next_attempt_at FROM webhook_deliveries d
        WHERE d.state = 'waiting' AND d.webhook_id > walk.webhook_id
        ORDER BY d.webhook_id, d.next_attempt_at LIMIT 1
    ) AS next
    WHERE walk.step < 64
),
ours AS MATERIALIZED (
    SELECT w.id FROM webhooks w
    WHERE w.id = ANY (ARRAY(SELECT webhook_id FROM walk WHERE since <= $2::timestamptz))
      AND w.disabled_at IS NULL AND w.removed_at IS NULL AND coalesce(w.resting_until <= $2, true)
    ORDER BY w.id
    FOR NO KEY UPDATE SKIP LOCKED
)
SELECT walk.webhook_id, ours.id IS NOT NULL AS ours,
       CASE WHEN w.disabled_at IS NULL AND w.removed_at IS NULL
            THEN greatest(walk.since, coalesce(w.resting_until, walk.since)) END AS due
FROM walk
LEFT JOIN webhooks w ON w.id = walk.webhook_id
LEFT JOIN ours ON ours.id = walk.webhook_id
ORDER BY walk.webhook_id;

-- name: claim
-- What is due of endpoints that the caller's transaction has locked, oldest first, and of each in turn, under a lease.
--   $1 owner  $2 now  $3 lease until  $4 rows wanted  $5 the endpoints  $6 attempts at one at a time, and $7 while it fails
--   $8 the organisations of the caller's own attempts, an element each  $9 attempts of one organisation at most
--   $10 event types that the caller knows: what a newer release wrote is left to it
-- What others still hold of an endpoint takes its room, and who has the least under way comes first: so neither does one
-- with older events keep the others out, nor one with many endpoints. With each comes the event, unless it is forgotten.
-- Rows are locked where they are found, passing those in somebody's hands, and then updated where they lie: to a plan made
-- while the table was empty, reading all of it is as good as any index. One that was changed between is not found there.
WITH room AS (
    SELECT w.*, held.rows AS held, CASE WHEN w.failures > 0 THEN $7::integer ELSE $6::integer END - held.rows AS free
    FROM webhooks w
    CROSS JOIN LATERAL (
        SELECT count(*)::integer AS rows FROM webhook_deliveries d
        WHERE d.webhook_id = w.id AND d.lease_until IS NOT NULL AND d.lease_until > $2::timestamptz
    ) AS held
    WHERE w.id = ANY ($5::uuid[])
),
due AS MATERIALIZED (
    SELECT found.*, room.organisation_id, room.held
    FROM room CROSS JOIN LATERAL (
        SELECT d.ctid AS place, d.webhook_id, d.event_id, d.next_attempt_at, d.lease_owner AS old_owner
        FROM webhook_deliveries d
        WHERE d.webhook_id = room.id AND d.state = 'waiting' AND d.next_attempt_at <= $2
          AND d.event_type = ANY ($10::text[])
        ORDER BY d.next_attempt_at, d.event_id LIMIT greatest(0, room.free)
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS found
),
in_turn AS (
    SELECT due.*, held + row_number() OVER (PARTITION BY webhook_id ORDER BY next_attempt_at, event_id) AS turn FROM due
),
shared AS (
    SELECT i.*, coalesce(mine.rows, 0)
                + row_number() OVER (PARTITION BY i.organisation_id ORDER BY i.turn, i.event_id) AS share
    FROM in_turn i
    LEFT JOIN (SELECT m.id, count(*) AS rows FROM unnest($8::uuid[]) AS m (id) GROUP BY m.id) AS mine
           ON mine.id = i.organisation_id
),
chosen AS (
    SELECT * FROM shared WHERE share <= $9::integer ORDER BY share, turn, event_id LIMIT $4
),
claimed AS (
    UPDATE webhook_deliveries d
    SET lease_owner = $1, lease_fence = d.lease_fence + 1, lease_until = $3, next_attempt_at = $3
    FROM chosen c
    WHERE d.ctid = c.place
    RETURNING d.webhook_id, d.event_id, d.lease_fence, d.attempts, c.old_owner
)
SELECT c.webhook_id, r.organisation_id AS tenant_id, c.event_id, c.lease_fence, c.attempts, c.old_owner, r.url, r.secret_sealed,
       CASE WHEN r.old_secret_until > $2 THEN r.old_secret_sealed END AS old_secret_sealed, r.failures, r.failing_since,
       e.id, e.organisation_id, e.domain_id, e.type, e.at, e.inbox_id, e.email_id, e.delivery_id, e.recipient, e.detail
FROM claimed c
JOIN room r ON r.id = c.webhook_id
LEFT JOIN events e ON e.id = c.event_id
ORDER BY c.event_id;

-- name: emails
-- Received emails as they are listed, without their texts: what a payload says of them. Lists that a stranger may have
-- made as long as he liked are cut.
SELECT e.id, e.thread_id, m.rfc_message_id, m.in_reply_to, e.direction, m.from_address, m.envelope_from,
       m.sender_warning, m.authentication, e.is_read, e.is_archived, m.received_at, e.created_at, 0 AS weight,
       left(m.subject, 1000), m.to_addresses[:100], m.cc_addresses[:100],
       CASE WHEN octet_length(m.attachments::text) < 32768 THEN m.attachments ELSE '[]' END, NULL::text, NULL::text
FROM emails e
JOIN messages m ON m.id = e.message_id
WHERE e.id = ANY ($1::uuid[]);

-- name: observe
-- How endpoints did: a success ends a row of failures; failures make it longer, let the endpoint rest, or end it. Written
-- before the results, because a claim locks in that order too. What another address answered, from before its owner chose
-- this one, says nothing of this one; and what was under way when an endpoint asked for a rest does not end that.
--   $1 now  $2 … $6 one element an endpoint: its id, failures now (0: it answered), rest until, why it is disabled, and the
--   address that was tried
WITH given AS (
    SELECT * FROM unnest($2::uuid[], $3::integer[], $4::timestamptz[], $5::text[], $6::text[])
        AS g (id, failures, resting_until, reason, url)
),
locked AS MATERIALIZED (
    SELECT w.id FROM webhooks w JOIN given g ON g.id = w.id
    WHERE w.removed_at IS NULL AND w.url = g.url AND (g.failures > 0 OR w.failures > 0 OR g.resting_until IS NOT NULL)
    ORDER BY w.id
    FOR NO KEY UPDATE OF w
)
UPDATE webhooks w
SET failures = CASE WHEN g.failures = 0 THEN 0 ELSE greatest(g.failures, w.failures) END,
    failing_since = CASE WHEN g.failures > 0 THEN coalesce(w.failing_since, $1::timestamptz) END,
    resting_until = greatest(w.resting_until, g.resting_until),
    disabled_at = CASE WHEN g.reason IS NOT NULL THEN coalesce(w.disabled_at, $1) ELSE w.disabled_at END,
    disabled_reason = coalesce(w.disabled_reason, g.reason)
FROM given g JOIN locked ON locked.id = g.id
WHERE w.id = g.id;

-- name: settle
-- Writes results, each only while its lease still holds.
--   $1 owner  $2 now  $3 … $9 one element a delivery
UPDATE webhook_deliveries d
SET state = g.state, attempts = d.attempts + 1, next_attempt_at = coalesce(g.next_attempt_at, d.next_attempt_at),
    last_attempt_at = $2::timestamptz, last_status = g.status, last_error = g.error,
    lease_owner = NULL, lease_until = NULL, settled_at = CASE WHEN g.state <> 'waiting' THEN $2::timestamptz END
FROM unnest($3::uuid[], $4::uuid[], $5::bigint[], $6::text[], $7::timestamptz[], $8::integer[], $9::text[])
    AS g (webhook_id, event_id, fence, state, next_attempt_at, status, error)
WHERE d.webhook_id = g.webhook_id AND d.event_id = g.event_id AND d.lease_fence = g.fence AND d.lease_owner = $1
RETURNING d.webhook_id, d.event_id;

-- name: release
-- Gives back what was claimed and not tried. $1 owner, $2 now, $3 … $5 one element a delivery
UPDATE webhook_deliveries d
SET lease_owner = NULL, lease_until = NULL, next_attempt_at = $2
FROM unnest($3::uuid[], $4::uuid[], $5::bigint[]) AS g (webhook_id, event_id, fence)
WHERE d.webhook_id = g.webhook_id AND d.event_id = g.event_id AND d.lease_fence = g.fence AND d.lease_owner = $1;

-- name: waiting
-- How much waits for each endpoint.
SELECT webhook_id, count(*) AS rows FROM webhook_deliveries WHERE state = 'waiting' GROUP BY webhook_id;

-- name: hold
-- Nobody else claims or gives up events of an endpoint before the transaction ends.
SELECT FROM webhooks WHERE id = $1 FOR NO KEY UPDATE;

-- name: drop
-- Gives up what is beyond $3 of the events that wait for an endpoint, $2 at once, those whose turn is next, and counts
-- them. The caller holds the endpoint: what each of two processes had counted before would be given up twice over.
WITH surplus AS (
    SELECT d.webhook_id, d.event_id FROM webhook_deliveries d
    WHERE d.webhook_id = $1 AND d.state = 'waiting' AND d.lease_until IS NULL
    ORDER BY d.next_attempt_at, d.event_id
    LIMIT least($2, greatest(0, (SELECT count(*) FROM webhook_deliveries
                                 WHERE webhook_id = $1 AND state = 'waiting') - $3::integer))
    FOR UPDATE SKIP LOCKED
), dropped AS (
    DELETE FROM webhook_deliveries d USING surplus s
    WHERE d.webhook_id = s.webhook_id AND d.event_id = s.event_id
    RETURNING d.event_id
), counted AS (
    UPDATE webhooks SET dropped = dropped + (SELECT count(*) FROM dropped) WHERE id = $1
)
SELECT count(*) FROM dropped;

-- name: expire
-- Gives up what has waited since before $1: its endpoint was disabled, or has never answered. $2 now, $3 how many at once
UPDATE webhook_deliveries d
SET state = 'failed', settled_at = $2, lease_owner = NULL, lease_until = NULL, lease_fence = d.lease_fence + 1,
    last_error = coalesce(d.last_error, 'it waited too long')
FROM (
    SELECT webhook_id, event_id FROM webhook_deliveries
    WHERE settled_at IS NULL AND waiting_since < $1
    ORDER BY waiting_since LIMIT $3
    FOR UPDATE SKIP LOCKED
) AS old
WHERE d.webhook_id = old.webhook_id AND d.event_id = old.event_id;

-- name: forget
-- Deliveries that were settled before $1, but for one that its owner has just asked for again. $2 how many at once
DELETE FROM webhook_deliveries
WHERE (webhook_id, event_id) IN (
    SELECT webhook_id, event_id FROM webhook_deliveries WHERE settled_at < $1 ORDER BY settled_at LIMIT $2
    FOR UPDATE SKIP LOCKED
);

-- name: removed
-- Endpoints that were removed before $1, so long ago that nobody still writes for them. $2 how many
SELECT id FROM webhooks WHERE removed_at < $1 ORDER BY removed_at LIMIT $2;

-- name: empty
-- Some deliveries of a removed endpoint. $2 how many
DELETE FROM webhook_deliveries
WHERE webhook_id = $1 AND event_id IN (SELECT event_id FROM webhook_deliveries WHERE webhook_id = $1 LIMIT $2);

-- name: delete
-- A removed endpoint for which nothing is kept any more.
DELETE FROM webhooks w
WHERE w.id = $1 AND w.removed_at IS NOT NULL
  AND NOT EXISTS (SELECT FROM webhook_deliveries d WHERE d.webhook_id = w.id);
