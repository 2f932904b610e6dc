-- name: due
-- One message whose sender has to be told something; locked, so that two processes do not tell him twice.
SELECT message_id, inbox_id, notice FROM deliveries
WHERE notice IS NOT NULL
ORDER BY id LIMIT 1
FOR UPDATE SKIP LOCKED;

-- name: take
-- All that the sender of a message has to be told of one kind; what is taken is told when the transaction commits.
UPDATE deliveries SET notice = NULL
WHERE message_id = $1 AND inbox_id = $2 AND notice = $3
RETURNING id, organisation_id, domain_id, email_id, envelope_from, recipient, state, attempts, last_reply, last_reply_by,
          last_host, last_attempt_at, next_attempt_at, created_at, prefix, options;

-- name: original
-- The message a notice is about, and the inbox it goes to, unless that was removed.
SELECT coalesce(m.raw, pieces_of(m.id)) AS raw, m.received_at, i.address
FROM messages m JOIN inboxes i ON i.id = $2 AND i.removed_at IS NULL
WHERE m.id = $1;
