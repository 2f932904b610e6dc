-- name: begin
-- Takes a key that is free, kept too long, or left behind by a process that died; a row comes back when it was taken.
-- $5 now, $6 answers older than this are forgotten, $7 requests begun before this are dead
INSERT INTO idempotency_keys AS kept (inbox_id, route, key, body_sha256, created_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (inbox_id, route, key) DO UPDATE
SET body_sha256 = excluded.body_sha256, created_at = excluded.created_at, status = NULL, answer = NULL
WHERE kept.created_at < $6 OR (kept.status IS NULL AND kept.created_at < $7)
RETURNING key;

-- name: kept
-- What is known of a key that could not be taken.
SELECT body_sha256, status, answer FROM idempotency_keys WHERE inbox_id = $1 AND route = $2 AND key = $3;

-- name: free
-- A request that failed leaves its key free; one that was answered keeps it.
DELETE FROM idempotency_keys WHERE inbox_id = $1 AND route = $2 AND key = $3 AND status IS NULL;

-- name: forget
-- Answers that are old enough. $1 before, $2 how many at once
DELETE FROM idempotency_keys
WHERE ctid IN (SELECT ctid FROM idempotency_keys WHERE created_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED);
