-- name: removed_inboxes
-- Inboxes to be emptied, longest removed first.
SELECT id FROM inboxes WHERE removed_at IS NOT NULL ORDER BY removed_at LIMIT $1;

-- name: emails_of_inbox
-- Some emails of an inbox.
SELECT id FROM emails WHERE inbox_id = $1 LIMIT $2;

-- name: delete_inbox
-- An inbox that holds nothing any more, with its keys, its webhooks and the senders it did not want.
WITH gone AS (
    SELECT id FROM inboxes i
    WHERE i.id = $1 AND i.removed_at IS NOT NULL AND NOT EXISTS (SELECT FROM emails e WHERE e.inbox_id = i.id)
), keys AS (
    DELETE FROM access_keys WHERE inbox_id IN (SELECT id FROM gone)
), senders AS (
    DELETE FROM sender_rules WHERE inbox_id IN (SELECT id FROM gone)
), hooks AS (
    DELETE FROM webhooks WHERE inbox_id IN (SELECT id FROM gone)
)
DELETE FROM inboxes WHERE id IN (SELECT id FROM gone);

-- name: removed_domains
-- Removed domains that nothing belongs to any more: no inbox, and no mail on its way that could still be suppressed; one
-- part for each partial index of what is on its way.
SELECT d.id, d.organisation_id
FROM domains d
WHERE d.removed_at IS NOT NULL
  AND NOT EXISTS (SELECT FROM inboxes i WHERE i.domain_id = d.id)
  AND NOT EXISTS (SELECT FROM deliveries q WHERE q.domain_id = d.id AND q.state IN ('queued', 'deferred'))
  AND NOT EXISTS (SELECT FROM deliveries q WHERE q.domain_id = d.id AND q.state = 'leased')
  AND NOT EXISTS (SELECT FROM deliveries q WHERE q.domain_id = d.id AND q.state = 'held')
ORDER BY d.removed_at
LIMIT $1;

-- name: delete_events_of_inbox
-- Some events of an inbox. $2 how many
DELETE FROM events WHERE id IN (SELECT id FROM events WHERE inbox_id = $1 ORDER BY id LIMIT $2);

-- name: delete_events_of_domain
-- Some events of a domain. $2 how many
DELETE FROM events WHERE id IN (SELECT id FROM events WHERE domain_id = $1 ORDER BY id LIMIT $2);

-- name: delete_webhook_deliveries_of_inbox
-- Some of what an inbox's webhooks had to be told. $2 how many
DELETE FROM webhook_deliveries
WHERE (webhook_id, event_id) IN (
    SELECT d.webhook_id, d.event_id
    FROM webhooks w JOIN webhook_deliveries d ON d.webhook_id = w.id
    WHERE w.inbox_id = $1 LIMIT $2
);

-- name: delete_webhook_deliveries_of_domain
-- Some of what a domain's webhooks had to be told. $2 how many
DELETE FROM webhook_deliveries
WHERE (webhook_id, event_id) IN (SELECT webhook_id, event_id FROM webhook_deliveries WHERE domain_id = $1 LIMIT $2);

-- name: delete_deliveries_of_domain
-- Some deliveries of a domain that are done; nobody is left who could be told how they ended. $2 how many
DELETE FROM deliveries
WHERE id IN (SELECT id FROM deliveries WHERE domain_id = $1 AND settled_at IS NOT NULL ORDER BY id LIMIT $2)
RETURNING message_id;

-- name: delete_domain
-- A domain with all that was only its own.
WITH dkim AS (DELETE FROM dkim_keys WHERE domain_id = $1),
     keys AS (DELETE FROM access_keys WHERE domain_id = $1),
     rules AS (DELETE FROM forwarding_rules WHERE domain_id = $1),
     senders AS (DELETE FROM sender_rules WHERE domain_id = $1),
     hooks AS (DELETE FROM webhooks WHERE domain_id = $1),
     addresses AS (DELETE FROM suppressions WHERE domain_id = $1)
DELETE FROM domains WHERE id = $1;

-- name: delete_organisation
-- An organisation that has no domain any more.
DELETE FROM organisations o WHERE o.id = $1 AND NOT EXISTS (SELECT FROM domains d WHERE d.organisation_id = o.id);

-- name: emails_before
-- The oldest emails, those with an id below $1.
SELECT id, inbox_id FROM emails WHERE id < $1 ORDER BY id LIMIT $2;

-- name: emails_of_domain_before
-- The oldest emails of a domain's inboxes, those with an id below $2; one probe an inbox. $3 how many
SELECT old.id, old.inbox_id
FROM inboxes i
CROSS JOIN LATERAL (
    (SELECT id, inbox_id FROM emails WHERE inbox_id = i.id AND NOT is_archived AND id < $2 ORDER BY id LIMIT $3)
    UNION ALL
    (SELECT id, inbox_id FROM emails WHERE inbox_id = i.id AND is_archived AND id < $2 ORDER BY id LIMIT $3)
) old
WHERE i.domain_id = $1
LIMIT $3;

-- name: delete_events_of_domain_before
-- The oldest events of a domain, those with an id below $2. $3 how many
DELETE FROM events WHERE id IN (SELECT id FROM events WHERE domain_id = $1 AND id < $2 ORDER BY id LIMIT $3);

-- name: delete_ended_deliveries_of_domain
-- A domain's forwards and bounces that ended before $2 and of which nobody has still to be told. $3 how many
DELETE FROM deliveries
WHERE id IN (
    SELECT id FROM deliveries
    WHERE domain_id = $1 AND email_id IS NULL AND settled_at < $2 AND notice IS NULL
    ORDER BY settled_at
    LIMIT $3
)
RETURNING message_id;

-- name: some_domain_has_its_own
-- Whether the settings hold for all domains.
SELECT EXISTS (SELECT FROM domain_retention);

-- name: days_of_domains
-- How long each domain keeps mail ($1 by the settings) and events ($2 by the settings).
SELECT d.id, coalesce(r.mail_days, $1) AS mail_days, coalesce(r.event_days, $2) AS event_days
FROM domains d
LEFT JOIN domain_retention r ON r.domain_id = d.id
ORDER BY d.id;

-- name: of_domain
-- What was set for one domain.
SELECT mail_days, attachment_hours, event_days FROM domain_retention WHERE domain_id = $1;

-- name: set_of_domain
-- Sets it anew.
INSERT INTO domain_retention (domain_id, mail_days, attachment_hours, event_days) VALUES ($1, $2, $3, $4)
ON CONFLICT (domain_id) DO UPDATE
SET mail_days = excluded.mail_days, attachment_hours = excluded.attachment_hours, event_days = excluded.event_days;

-- name: delete_of_domain
-- The settings hold for it again.
DELETE FROM domain_retention WHERE domain_id = $1;

-- name: delete_events_before
-- The oldest events, those with an id below $1.
DELETE FROM events WHERE id IN (SELECT id FROM events WHERE id < $1 ORDER BY id LIMIT $2);

-- name: delete_ended_deliveries
-- Forwards and bounces that ended before $1 and of which nobody has still to be told.
DELETE FROM deliveries
WHERE id IN (
    SELECT id FROM deliveries
    WHERE email_id IS NULL AND settled_at < $1 AND notice IS NULL
    ORDER BY settled_at
    LIMIT $2
)
RETURNING message_id;

-- name: leftovers
-- Messages that only deliveries held when they were last looked at, from behind $1.
SELECT message_id FROM leftover_messages WHERE message_id > $1 ORDER BY message_id LIMIT $2;

-- name: delete_expired_suppressions
-- Suppressions whose time was over before $1, and counts of soft bounces that led to none. $2 how many
DELETE FROM suppressions
WHERE id IN (
    SELECT id FROM suppressions
    WHERE (expires_at IS NOT NULL OR NOT active) AND coalesce(expires_at, created_at) < $1
    ORDER BY coalesce(expires_at, created_at)
    LIMIT $2
);
