-- name: lock_name
-- Registrations of one name happen one after the other, also when no row of it is there to be locked.
SELECT pg_advisory_xact_lock(hashtextextended('clawmail domain ' || $1, 0));

-- name: domain_for_update
-- A live domain by name, locked: registering, verifying and removing it happen one after the other.
SELECT id, organisation_id, name, state, verification_value, trusted, created_at, verified_at, pending_until
FROM domains
WHERE name = $1 AND removed_at IS NULL
FOR UPDATE;

-- name: domain_by_id
-- A live domain, also one whose pending time is over.
SELECT id, organisation_id, name, state, verification_value, trusted, created_at, verified_at, pending_until
FROM domains
WHERE id = $1 AND removed_at IS NULL;

-- name: domains
-- Every live domain of the installation, for its operator. $1 now
SELECT id, organisation_id, name, state, verification_value, trusted, created_at, verified_at, pending_until
FROM domains
WHERE removed_at IS NULL AND (state = 'verified' OR pending_until > $1)
ORDER BY name;

-- name: add_organisation
-- The tenant a new domain belongs to.
INSERT INTO organisations (id, name, created_at) VALUES ($1, $2, $3);

-- name: add_domain
-- A domain nobody holds.
INSERT INTO domains (id, organisation_id, name, state, verification_value, pending_until, created_at)
VALUES ($1, $2, $3, 'pending', $4, $5, $6);

-- name: renew_pending
-- A pending domain is registered again: what its TXT record has to say changes, and its time starts anew.
UPDATE domains SET verification_value = $2, pending_until = $3 WHERE id = $1 AND state = 'pending';

-- name: verify_domain
-- A pending domain becomes verified. $2 by the operator's word, $3 now
UPDATE domains
SET state = 'verified', trusted = $2, verified_at = $3, pending_until = NULL
WHERE id = $1 AND state = 'pending';

-- name: remove_domain
-- The domain, its inboxes, keys and webhooks are gone for everybody; upkeep empties them later.
WITH gone AS (UPDATE domains SET removed_at = $2 WHERE id = $1 AND removed_at IS NULL RETURNING id),
     inboxes_gone AS (UPDATE inboxes SET removed_at = $2
                      WHERE domain_id IN (SELECT id FROM gone) AND removed_at IS NULL),
     keys_gone AS (UPDATE access_keys SET revoked_at = $2
                   WHERE domain_id IN (SELECT id FROM gone) AND revoked_at IS NULL),
     rules_gone AS (DELETE FROM forwarding_rules WHERE domain_id IN (SELECT id FROM gone)),
     webhooks_gone AS (UPDATE webhooks SET removed_at = $2
                       WHERE domain_id IN (SELECT id FROM gone) AND removed_at IS NULL)
SELECT count(*) FROM gone;

-- name: forget_expired
-- Registrations that nobody verified in time, with all they consist of. $1 now, $2 how many at once
WITH expired AS (
         SELECT id, organisation_id FROM domains
         WHERE state = 'pending' AND removed_at IS NULL AND pending_until < $1
           AND NOT EXISTS (SELECT FROM inboxes i WHERE i.domain_id = domains.id)
         LIMIT $2 FOR UPDATE SKIP LOCKED),
     keys AS (DELETE FROM access_keys WHERE domain_id IN (SELECT id FROM expired)),
     dkim AS (DELETE FROM dkim_keys WHERE domain_id IN (SELECT id FROM expired))
SELECT id, organisation_id FROM expired;

-- name: delete_domains
-- The rows of forgotten registrations, once nothing refers to them.
DELETE FROM domains WHERE id = ANY($1::uuid[]);

-- name: delete_organisations
-- Their tenants, unless they own something else.
DELETE FROM organisations o WHERE id = ANY($1::uuid[]) AND NOT EXISTS (SELECT FROM domains d WHERE d.organisation_id = o.id);

-- name: dkim_keys
-- All signing keys a domain ever had, newest first.
SELECT id, domain_id, selector, algorithm, private_sealed, public_record, state, created_at
FROM dkim_keys
WHERE domain_id = $1
ORDER BY id DESC;

-- name: add_dkim_key
-- A new signing key.
INSERT INTO dkim_keys (id, domain_id, selector, algorithm, private_sealed, public_record, state, created_at, activated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7::text, $8::timestamptz, CASE WHEN $7::text = 'active' THEN $8::timestamptz END);

-- name: retire_active_key
-- The key that signed until now; what it signed can still be checked.
UPDATE dkim_keys SET state = 'retired', retired_at = $3 WHERE domain_id = $1 AND algorithm = $2 AND state = 'active';

-- name: activate_key
-- The waiting key signs from now on.
UPDATE dkim_keys SET state = 'active', activated_at = $2 WHERE id = $1 AND state = 'waiting';

-- name: waiting_keys
-- Keys whose record has not been seen yet; another choice each time when there are more than $1.
SELECT k.id, k.domain_id, k.selector, k.algorithm, k.private_sealed, k.public_record, k.state, k.created_at,
       d.name AS domain_name
FROM dkim_keys k
JOIN domains d ON d.id = k.domain_id AND d.removed_at IS NULL AND d.state = 'verified'
WHERE k.state = 'waiting'
ORDER BY random()
LIMIT $1;

-- name: inbox_for_share
-- A live inbox by its folded address, which cannot be removed before the caller's transaction ends.
SELECT id, organisation_id, domain_id, local_part, address, is_catch_all, storage_quota_bytes, created_at
FROM inboxes
WHERE lower(address COLLATE "C") = $1 AND removed_at IS NULL
FOR SHARE;

-- name: add_inbox
-- A new inbox; adds nothing when somebody was faster.
INSERT INTO inboxes (id, organisation_id, domain_id, local_part, address, is_catch_all, storage_quota_bytes, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: add_usage
-- The kept counts of a new inbox.
INSERT INTO inbox_usage (inbox_id) VALUES ($1);

-- name: inboxes
-- The inboxes of a domain, oldest first, with what is kept of them.
SELECT i.id, i.address, i.local_part, i.created_at, i.storage_quota_bytes, i.is_catch_all,
       u.used_bytes AS storage_used_bytes, u.inbound_unread AS unread_count
FROM inboxes i
JOIN inbox_usage u ON u.inbox_id = i.id
WHERE i.domain_id = $1 AND i.removed_at IS NULL
ORDER BY i.id;

-- name: set_quota
-- How much an inbox may hold. $1 its folded address, $2 its domain
UPDATE inboxes SET storage_quota_bytes = $3
WHERE lower(address COLLATE "C") = $1 AND domain_id = $2 AND removed_at IS NULL
RETURNING id;

-- name: remove_inbox
-- The inbox, its keys and its webhooks are gone for everybody; upkeep empties it later.
-- $1 its folded address, $2 its domain, $3 now
WITH gone AS (UPDATE inboxes SET removed_at = $3
              WHERE lower(address COLLATE "C") = $1 AND domain_id = $2 AND removed_at IS NULL RETURNING id),
     keys_gone AS (UPDATE access_keys SET revoked_at = $3
                   WHERE inbox_id IN (SELECT id FROM gone) AND revoked_at IS NULL),
     webhooks_gone AS (UPDATE webhooks SET removed_at = $3
                       WHERE inbox_id IN (SELECT id FROM gone) AND removed_at IS NULL)
SELECT id FROM gone;

-- name: rules
-- The forwarding rules of a domain, oldest first.
SELECT id, organisation_id, domain_id, match_field, regex_pattern, destination_email, is_active, created_at
FROM forwarding_rules
WHERE domain_id = $1
ORDER BY id;

-- name: lock_domain
-- Makes additions to one domain happen one after the other, so that a limit on their number holds.
SELECT id FROM domains WHERE id = $1 AND removed_at IS NULL FOR NO KEY UPDATE;

-- name: count_rules
-- How many forwarding rules a domain has.
SELECT count(*) FROM forwarding_rules WHERE domain_id = $1;

-- name: add_rule
-- A new forwarding rule.
INSERT INTO forwarding_rules (id, organisation_id, domain_id, match_field, regex_pattern, destination_email, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: delete_rule
-- A rule of a domain.
DELETE FROM forwarding_rules WHERE id = $1 AND domain_id = $2 RETURNING id;
