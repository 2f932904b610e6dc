-- name: of_messages
-- Deliveries of outbound emails of these inboxes, by what their Message-IDs hash to.
SELECT d.id, d.organisation_id, d.domain_id, d.inbox_id, d.email_id, d.rule_id, d.kind, d.recipient
FROM emails e JOIN deliveries d ON d.email_id = e.id
WHERE e.inbox_id = ANY ($1) AND e.message_key = ANY ($2) AND e.direction = 'outbound'
LIMIT $3;

-- name: of_email
-- Deliveries of one email.
SELECT id, organisation_id, domain_id, inbox_id, email_id, rule_id, kind, recipient
FROM deliveries WHERE email_id = $1 LIMIT $2;

-- name: of_id
-- One delivery.
SELECT id, organisation_id, domain_id, inbox_id, email_id, rule_id, kind, recipient FROM deliveries WHERE id = $1;

-- name: of_forwards
-- The newest delivered forward of a domain with this rewritten sender, for each of these recipients.
SELECT DISTINCT ON (recipient) id, organisation_id, domain_id, inbox_id, email_id, rule_id, kind, recipient
FROM deliveries
WHERE kind = 'forward' AND envelope_from = $1 AND lower(recipient) = ANY ($2) AND domain_id = $3
ORDER BY recipient, id DESC;

-- name: inbox_of_sender
-- The inbox of a domain that a report names as the sender.
SELECT id FROM inboxes WHERE lower(address) = lower($1) AND domain_id = $2 AND removed_at IS NULL;

-- name: come_back
-- A delivery that was taken over and came back. Repeating it moves nothing.
UPDATE deliveries SET state = 'bounced', last_reply = $2, settled_at = $3
WHERE id = $1 AND state = 'delivered'
RETURNING id;

-- name: has_complained
-- Whether a complaint about this delivery has been told of.
SELECT 1 FROM events WHERE email_id = $1 AND delivery_id = $2 AND type = 'complained' LIMIT 1;
