-- name: candidates
-- Keys that begin like the one shown, whose owner is still there. Their hashes decide. $2 kinds, $3 now, $4 how many
SELECT k.id AS key_id, k.kind, k.secret_hash, k.organisation_id, k.domain_id, d.name AS domain_name,
       d.state = 'verified' AS verified, k.inbox_id, i.address
FROM access_keys k
JOIN domains d ON d.id = k.domain_id AND d.removed_at IS NULL AND (d.state = 'verified' OR d.pending_until > $3)
LEFT JOIN inboxes i ON i.id = k.inbox_id
WHERE k.prefix = $1 AND k.kind = ANY($2::text[])
  AND k.revoked_at IS NULL AND k.used_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $3)
  AND (k.inbox_id IS NULL OR i.removed_at IS NULL)
ORDER BY k.id DESC
LIMIT $4;

-- name: add
-- A new key; its text is known to its owner alone.
INSERT INTO access_keys (id, organisation_id, domain_id, inbox_id, kind, prefix, secret_hash, label, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: use_up
-- A creation key opens once: of two that try at the same time, one gets a row. $2 now
UPDATE access_keys SET used_at = $2, last_used_at = $2
WHERE id = $1 AND kind = 'creation' AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $2
RETURNING id;

-- name: drop_tokens
-- The tokens of a pending domain that is registered anew; nothing was done with them that is worth keeping.
DELETE FROM access_keys WHERE domain_id = $1 AND kind = 'domain';

-- name: forget_creation_keys
-- Creation keys long after their hour. $1 before, $2 how many at once
DELETE FROM access_keys
WHERE id IN (SELECT id FROM access_keys WHERE kind = 'creation' AND expires_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED);

-- name: revocable
-- Live keys of a domain, or of any (null), by id or by prefix. $2 kind, $3 id or null, $4 prefix, $5 now
SELECT id FROM access_keys
WHERE ($1::uuid IS NULL OR domain_id = $1) AND kind = $2 AND (id = $3 OR prefix = $4)
  AND revoked_at IS NULL AND used_at IS NULL AND (expires_at IS NULL OR expires_at > $5)
LIMIT 2
FOR UPDATE;

-- name: revoke
-- One key. What it made known to somebody outside ends with it. $2 now
WITH disabled AS (
    UPDATE webhooks SET disabled_at = $2, disabled_reason = 'the key that chose its address was revoked'
    WHERE key_id = $1 AND disabled_at IS NULL AND removed_at IS NULL
)
UPDATE access_keys SET revoked_at = $2 WHERE id = $1;

-- name: inbox_keys
-- The inbox keys of a domain, revoked ones too, oldest first. $2 an inbox, or null for all
SELECT k.id, k.prefix AS key_prefix, i.address AS email, k.label, k.created_at, k.last_used_at, k.revoked_at
FROM access_keys k
JOIN inboxes i ON i.id = k.inbox_id
WHERE k.domain_id = $1 AND k.kind = 'inbox' AND ($2::uuid IS NULL OR k.inbox_id = $2)
ORDER BY k.id;

-- name: were_used
-- When keys were last used, many in one statement.
UPDATE access_keys k SET last_used_at = greatest(k.last_used_at, used.at)
FROM unnest($1::uuid[], $2::timestamptz[]) AS used (id, at)
WHERE k.id = used.id;

-- name: changed
-- Tells every process to forget a key, or all keys of a domain. $1 its id
SELECT pg_notify('keys', $1);
