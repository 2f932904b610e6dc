-- name: hold_key
-- Whether a key was revoked; if not, it is not revoked before the transaction ends.
SELECT revoked_at IS NOT NULL FROM access_keys WHERE id = $1 FOR SHARE;

-- name: inbox
-- A live inbox of a domain, by its folded address, which stays as long as the transaction.
SELECT id FROM inboxes
WHERE lower(address COLLATE "C") = $1 AND domain_id = $2 AND removed_at IS NULL
FOR KEY SHARE;

-- name: count
-- How many endpoints listen to an inbox, or to a domain as a whole.
SELECT count(*) FROM webhooks
WHERE domain_id = $1 AND inbox_id IS NOT DISTINCT FROM $2::uuid AND removed_at IS NULL;

-- name: add
-- A new endpoint; it hears of what is committed from now on.
INSERT INTO webhooks (id, organisation_id, domain_id, inbox_id, key_id, url, event_types, secret_sealed, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: of_owner
-- The endpoints of a domain, oldest first; of one inbox ($2) or, null, all of them. $3 one id, or null for all
SELECT w.id, w.organisation_id, w.domain_id, w.inbox_id, i.address AS inbox, w.url, w.event_types, w.secret_sealed,
       w.old_secret_sealed, w.old_secret_until, w.failures, w.failing_since, w.resting_until, w.dropped,
       w.disabled_at, w.disabled_reason, w.created_at
FROM webhooks w
LEFT JOIN inboxes i ON i.id = w.inbox_id
WHERE w.domain_id = $1 AND ($2::uuid IS NULL OR w.inbox_id = $2) AND ($3::uuid IS NULL OR w.id = $3)
  AND w.removed_at IS NULL
ORDER BY w.id;

-- name: change
-- What its owner set: the address, with the key that chose it; which events; whether it is on. Switched on, or at another
-- address, it begins without a past. $2 address, $3 key, $4 events, $5 whether on, each null: as it was. $6 now
UPDATE webhooks
SET url = coalesce($2, url),
    key_id = CASE WHEN $2::text IS NOT NULL OR $5::boolean THEN $3 ELSE key_id END,
    event_types = coalesce($4::text[], event_types),
    disabled_at = CASE WHEN $5 THEN NULL WHEN NOT $5 THEN coalesce(disabled_at, $6) ELSE disabled_at END,
    disabled_reason = CASE WHEN $5 THEN NULL WHEN NOT $5 THEN coalesce(disabled_reason, 'by its owner')
                           ELSE disabled_reason END,
    failures = CASE WHEN $2 IS NOT NULL OR $5 THEN 0 ELSE failures END,
    failing_since = CASE WHEN $2 IS NOT NULL OR $5 THEN NULL ELSE failing_since END,
    resting_until = CASE WHEN $2 IS NOT NULL OR $5 THEN NULL ELSE resting_until END
WHERE id = $1 AND removed_at IS NULL;

-- name: wake
-- Processes look at what waits: an endpoint takes something again, or somebody asked for one more try.
SELECT pg_notify('webhooks', '');

-- name: rotate
-- A new secret; the one before signs beside it until $3.
UPDATE webhooks SET old_secret_sealed = secret_sealed, old_secret_until = $3, secret_sealed = $2
WHERE id = $1 AND removed_at IS NULL;

-- name: remove
-- An endpoint is told nothing more. $2 now
UPDATE webhooks SET removed_at = $2 WHERE id = $1 AND removed_at IS NULL;

-- name: deliveries
-- What an endpoint was told, and has to be told, newest first, from before the event $2 (null: from the top). The inner
-- LIMIT is what a page can hold.
SELECT event_id, event_type, state, attempts, waiting_since, last_attempt_at, last_status, last_error,
       CASE WHEN state = 'waiting' THEN next_attempt_at END AS next_attempt_at, settled_at
FROM (
    SELECT * FROM webhook_deliveries
    WHERE webhook_id = $1 AND event_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    ORDER BY event_id DESC
    LIMIT 101
) page
ORDER BY event_id DESC
LIMIT $3;

-- name: retry
-- One more round for an event, whatever became of it; an attempt that is under way counts no more. $3 now
UPDATE webhook_deliveries
SET state = 'waiting', attempts = 0, next_attempt_at = $3, waiting_since = $3, settled_at = NULL,
    lease_owner = NULL, lease_until = NULL, lease_fence = lease_fence + 1
WHERE webhook_id = $1 AND event_id = $2
RETURNING event_id, event_type, state, attempts, waiting_since, last_attempt_at, last_status, last_error,
          next_attempt_at, settled_at;
