-- name: domain
-- A live domain by its name.
SELECT id, organisation_id, name, state, verification_value, trusted, created_at, verified_at, pending_until
FROM domains
WHERE name = $1 AND removed_at IS NULL AND (state = 'verified' OR pending_until > $2);

-- name: inbox
-- A live inbox by its folded address.
SELECT id, organisation_id, domain_id, local_part, address, is_catch_all, storage_quota_bytes, created_at
FROM inboxes
WHERE lower(address COLLATE "C") = $1 AND removed_at IS NULL;

-- name: rules
-- The active forwarding rules of a domain, oldest first.
SELECT id, organisation_id, domain_id, match_field, regex_pattern, destination_email, is_active, created_at
FROM forwarding_rules
WHERE domain_id = $1 AND is_active
ORDER BY id;

-- name: active_keys
-- The keys a domain signs with.
SELECT id, domain_id, selector, algorithm, private_sealed, public_record, state, created_at
FROM dkim_keys
WHERE domain_id = $1 AND state = 'active'
ORDER BY algorithm DESC;

-- name: add_catch_all
-- A domain's catch-all, made when the first mail for an unknown name comes. Whoever asks may not have heard yet that the
-- domain is gone: the address must not stay behind, in the way of the next owner of the name.
INSERT INTO inboxes (id, organisation_id, domain_id, local_part, address, is_catch_all, storage_quota_bytes, created_at)
SELECT $1, $2, d.id, $4, $5, true, $6, $7
FROM (SELECT id FROM domains WHERE id = $3 AND removed_at IS NULL FOR SHARE) d
ON CONFLICT DO NOTHING;

-- name: add_usage_row
-- The kept counts of a new inbox.
INSERT INTO inbox_usage (inbox_id)
SELECT id FROM inboxes WHERE id = $1
ON CONFLICT DO NOTHING;

-- name: used_bytes
-- How full an inbox is.
SELECT used_bytes FROM inbox_usage WHERE inbox_id = $1;

-- name: changed
-- Tells every process that what it remembers of a domain is old.
SELECT pg_notify('directory', $1);
