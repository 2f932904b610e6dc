-- name: begin
-- Takes a key that is free, kept too long, or left behind by a process that died; a row comes back when it was taken.
-- $5 now, $6 answers older than this are forgotten, $7 requests without a claim begun before this are dead, $8 the claim,
-- $9 for how many seconds
INSERT INTO idempotency_keys AS kept (inbox_id, route, key, body_sha256, created_at, claim, held_until)
VALUES ($1, $2, $3, $4, $5, $8, now() + make_interval(secs => $9))
ON CONFLICT (inbox_id, route, key) DO UPDATE
SET body_sha256 = excluded.body_sha256, created_at = excluded.created_at, claim = excluded.claim,
    held_until = excluded.held_until, status = NULL, answer = NULL
WHERE kept.created_at < $6 OR (kept.status IS NULL AND coalesce(kept.held_until < now(), kept.created_at < $7))
RETURNING key;

-- name: renew
-- Requests that take their time go on having their keys. $1 to $3 the keys, $4 the claims, $5 for how many seconds
UPDATE idempotency_keys AS kept SET held_until = now() + make_interval(secs => $5)
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[]) AS held (inbox_id, route, key, claim)
WHERE (kept.inbox_id, kept.route, kept.key, kept.claim) = (held.inbox_id, held.route, held.key, held.claim)
  AND kept.status IS NULL;

-- name: kept
-- What is known of a key that could not be taken.
SELECT body_sha256, status, answer FROM idempotency_keys WHERE inbox_id = $1 AND route = $2 AND key = $3;

-- name: free
-- A request that failed leaves its key free; one that was answered keeps it, and so does who took it over.
DELETE FROM idempotency_keys WHERE inbox_id = $1 AND route = $2 AND key = $3 AND claim = $4 AND status IS NULL;

-- name: forget
-- Answers that are old enough. $1 before, $2 how many at once
DELETE FROM idempotency_keys
WHERE ctid IN (SELECT ctid FROM idempotency_keys WHERE created_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED);
