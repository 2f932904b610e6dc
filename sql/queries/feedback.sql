-- name: of_messages
-- Deliveries of outbound emails of these inboxes, by what their Message-IDs hash to. alone: nobody else got a mail of
-- that Message-ID; who was never tried does not know it.
SELECT d.id, d.organisation_id, d.domain_id, d.inbox_id, d.email_id, d.rule_id, d.kind, d.recipient, d.destination,
       d.state, d.last_host, count(*) FILTER (WHERE d.attempts > 0) OVER (PARTITION BY e.message_key) <= 1 AS alone
FROM emails e JOIN deliveries d ON d.email_id = e.id
WHERE e.inbox_id = ANY ($1) AND e.message_key = ANY ($2) AND e.direction = 'outbound'
LIMIT $3;

-- name: of_email
-- Deliveries of one email.
SELECT id, organisation_id, domain_id, inbox_id, email_id, rule_id, kind, recipient, destination, state, last_host,
       count(*) FILTER (WHERE attempts > 0) OVER () <= 1 AS alone
FROM deliveries WHERE email_id = $1 LIMIT $2;

-- name: of_id
-- One delivery.
SELECT id, organisation_id, domain_id, inbox_id, email_id, rule_id, kind, recipient, destination, state, last_host,
       true AS alone
FROM deliveries WHERE id = $1;

-- name: of_forwards
-- The newest forward of a domain with this rewritten sender, for each of these recipients.
SELECT d.id, d.organisation_id, d.domain_id, d.inbox_id, d.email_id, d.rule_id, d.kind, d.recipient, d.destination,
       d.state, d.last_host, true AS alone
FROM unnest($2::text[]) AS wanted (recipient)
CROSS JOIN LATERAL (
    SELECT * FROM deliveries f
    WHERE f.kind = 'forward' AND f.envelope_from = $1 AND lower(f.recipient COLLATE "C") = wanted.recipient AND f.domain_id = $3
    ORDER BY f.id DESC LIMIT 1
) AS d;

-- name: inbox_of_sender
-- The inbox of a domain that a report names as the sender, by its folded address.
SELECT id FROM inboxes WHERE lower(address COLLATE "C") = $1 AND domain_id = $2 AND removed_at IS NULL;

-- name: sender_of
-- The address of the inbox that sent a delivery of a domain, unless it was removed.
SELECT i.address FROM deliveries d JOIN inboxes i ON i.id = d.inbox_id AND i.removed_at IS NULL
WHERE d.id = $1 AND d.domain_id = $2;

-- name: come_back
-- A delivery that was taken over and came back. Repeating it moves nothing.
UPDATE deliveries SET state = 'bounced', last_reply = $2, settled_at = $3
WHERE id = $1 AND state = 'delivered'
RETURNING id;

-- name: told
-- Whether an event of type $3 tells of a delivery already. $4: one that was only claimed does not count.
SELECT 1 FROM events
WHERE email_id = $1 AND delivery_id = $2 AND type = $3 AND (NOT $4 OR detail ->> 'proved' IS DISTINCT FROM 'false')
LIMIT 1;
