-- name: original
-- The email that a reply or a forward starts from, among its owner's own.
SELECT e.id, e.thread_id, e.direction, coalesce(m.raw, pieces_of(m.id)) AS raw, m.rfc_message_id, m.reference_ids,
       m.in_reply_to, m.subject,
       m.from_address, m.from_name, m.to_addresses, m.cc_addresses, m.reply_to, m.body_text, m.body_html, m.received_at
FROM emails e
JOIN messages m ON m.id = e.message_id
WHERE e.id = $1 AND e.inbox_id = $2;
