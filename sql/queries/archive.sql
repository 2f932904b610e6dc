-- name: next_emails
-- The emails of an inbox that follow an id, oldest first, with what there is to read. Two walks of emails_list, merged.
-- $1 inbox, $2 after this id, $3 rows
SELECT id, size FROM (
    (SELECT id, size FROM emails WHERE inbox_id = $1 AND NOT is_archived AND id > $2 ORDER BY id LIMIT $3)
    UNION ALL
    (SELECT id, size FROM emails WHERE inbox_id = $1 AND is_archived AND id > $2 ORDER BY id LIMIT $3)
) page
ORDER BY id
LIMIT $3;

-- name: emails
-- All that is kept of these emails, oldest first. $1 inbox, $2 ids
SELECT e.direction, e.is_read, e.is_archived, m.received_at, m.envelope_from, m.bcc_addresses, m.authentication,
       m.rfc_message_id, m.subject, m.trace,
       coalesce(m.raw, pieces_of(m.id)) AS raw
FROM emails e
JOIN messages m ON m.id = e.message_id
WHERE e.id = ANY ($2::uuid[]) AND e.inbox_id = $1
ORDER BY e.id;

-- name: count
-- How many emails an inbox has, as kept.
SELECT unread + read + archived_unread + archived_read FROM inbox_usage WHERE inbox_id = $1;

-- name: lock_counts
-- Nothing else is filed into this inbox until the transaction ends; no row if it is gone.
SELECT u.inbox_id
FROM inbox_usage u
JOIN inboxes i ON i.id = u.inbox_id AND i.removed_at IS NULL
WHERE u.inbox_id = $1
FOR UPDATE OF u;

-- name: known
-- Of these messages, those an inbox holds: the same bytes under the same Message-ID, gone the same way. One without a
-- Message-ID is looked for among its like, by size. $1 inbox, $2 places, $3 hashes, $4 keys or null, $5 sizes, $6 directions
WITH wanted AS (
    SELECT * FROM unnest($2::integer[], $3::bytea[], $4::uuid[], $5::integer[], $6::text[])
        AS w (place, raw_sha256, message_key, size, direction)
)
SELECT w.place
FROM wanted w
JOIN emails e ON e.inbox_id = $1 AND e.message_key = w.message_key AND e.direction = w.direction
JOIN messages m ON m.id = e.message_id AND m.raw_sha256 = w.raw_sha256
UNION
SELECT w.place
FROM wanted w
JOIN emails e ON w.message_key IS NULL AND e.inbox_id = $1 AND e.message_key IS NULL AND e.size = w.size
             AND e.direction = w.direction
JOIN messages m ON m.id = e.message_id AND m.raw_sha256 = w.raw_sha256;
