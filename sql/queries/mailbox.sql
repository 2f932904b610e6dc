-- name: list_page
-- A page of one list, newest first, with its kept total, which comes even when the page is empty.
-- $1 inbox, $2 archived, $3 read or null, $4 rows a page, $5 rows before it, $6 as $3 of show
SELECT counted.total, email.*
FROM inbox_usage u
CROSS JOIN LATERAL (
    SELECT CASE WHEN $2::boolean THEN u.archived_read ELSE u.read END * ($3::boolean IS NOT FALSE)::integer
         + CASE WHEN $2 THEN u.archived_unread ELSE u.unread END * ($3 IS NOT TRUE)::integer AS total
) counted
LEFT JOIN LATERAL page_of_emails(
    $1, $2, $3, CASE WHEN $5::bigint < counted.total THEN $4::bigint ELSE 0 END, $5
) AS page (id) ON true
LEFT JOIN LATERAL (
    SELECT e.id, e.thread_id, m.rfc_message_id, m.in_reply_to, e.direction, m.from_address, m.envelope_from,
           m.sender_warning, m.authentication, e.is_read, e.is_archived, m.received_at, e.created_at, kept.weight,
           kept.subject, kept.to_addresses, kept.cc_addresses, kept.attachments, kept.body_text, kept.body_html
    FROM emails e
    JOIN messages m ON m.id = e.message_id
    CROSS JOIN LATERAL texts_of_message(m, $6::integer) AS kept
    WHERE e.id = page.id
    OFFSET 0
) email ON true
WHERE u.inbox_id = $1
ORDER BY page.id DESC;

-- name: show
-- Emails of an inbox by their ids, oldest first, as list_page shows them.
-- $1 inbox, $2 ids, $3 the most that the texts of one may weigh to come along
SELECT e.id, e.thread_id, m.rfc_message_id, m.in_reply_to, e.direction, m.from_address, m.envelope_from,
       m.sender_warning, m.authentication, e.is_read, e.is_archived, m.received_at, e.created_at, kept.weight,
       kept.subject, kept.to_addresses, kept.cc_addresses, kept.attachments, kept.body_text, kept.body_html
FROM unnest($2::uuid[]) AS wanted (id)
JOIN emails e ON e.id = wanted.id AND e.inbox_id = $1
JOIN messages m ON m.id = e.message_id
CROSS JOIN LATERAL texts_of_message(m, $3::integer) AS kept
ORDER BY e.id;

-- name: source
-- Where the bytes of an email are and what goes on top of them.
SELECT m.id, e.direction, m.trace, m.raw_size, m.attachments, m.bcc_addresses, m.reply_to, m.received_at,
       m.notes, r.attachment_hours
FROM emails e
JOIN messages m ON m.id = e.message_id
LEFT JOIN domain_retention r ON r.domain_id = e.domain_id
WHERE e.id = $2 AND e.inbox_id = $1;

-- name: raw_piece
-- Some octets of a message; they are stored uncompressed, so that only these are read. $2 counts from 0.
SELECT coalesce(substring(raw FROM $2::integer + 1 FOR $3::integer), piece_of(id, $2, $3))
FROM messages WHERE id = $1;

-- name: recipients
-- How far a sent mail got with each of its recipients, in the order they were named. A lease is an attempt under way.
SELECT recipient, CASE WHEN state <> 'leased' THEN state WHEN last_reply IS NULL THEN 'queued' ELSE 'deferred' END,
       attempts, last_reply, last_attempt_at,
       CASE WHEN state IN ('queued', 'leased', 'deferred', 'held') THEN next_attempt_at END, last_host
FROM deliveries
WHERE email_id = $1 AND kind = 'send'
ORDER BY id;

-- name: set_flags
-- Read and archived, each set or left alone (null), and the kept counts by what really changed. The counts are locked
-- before the email, as everywhere, so that no two changes of an inbox wait for each other in a ring.
-- $1 inbox, $2 email, $3 read, $4 archived
WITH counts AS (
    SELECT inbox_id FROM inbox_usage WHERE inbox_id = $1 FOR UPDATE
), old AS (
    SELECT e.id, e.is_read, e.is_archived, e.direction = 'inbound' AS inbound
    FROM emails e
    JOIN counts ON counts.inbox_id = e.inbox_id
    WHERE e.id = $2
    FOR UPDATE OF e
), new AS (
    SELECT coalesce($3::boolean, is_read) AS is_read, coalesce($4::boolean, is_archived) AS is_archived FROM old
), changed AS (
    UPDATE emails e SET is_read = new.is_read, is_archived = new.is_archived
    FROM old, new
    WHERE e.id = old.id AND (old.is_read, old.is_archived) IS DISTINCT FROM (new.is_read, new.is_archived)
    RETURNING e.id
), counted AS (
    UPDATE inbox_usage u
    SET unread = u.unread + (NOT new.is_archived AND NOT new.is_read)::integer
                          - (NOT old.is_archived AND NOT old.is_read)::integer,
        read = u.read + (NOT new.is_archived AND new.is_read)::integer
                      - (NOT old.is_archived AND old.is_read)::integer,
        archived_unread = u.archived_unread + (new.is_archived AND NOT new.is_read)::integer
                                            - (old.is_archived AND NOT old.is_read)::integer,
        archived_read = u.archived_read + (new.is_archived AND new.is_read)::integer
                                        - (old.is_archived AND old.is_read)::integer,
        inbound_unread = u.inbound_unread + (old.inbound AND NOT new.is_archived AND NOT new.is_read)::integer
                                          - (old.inbound AND NOT old.is_archived AND NOT old.is_read)::integer
    FROM old, new, changed
    WHERE u.inbox_id = $1
)
SELECT is_read, is_archived FROM new;

-- name: lock_counts
-- Nothing else is filed into, changed in or removed from this inbox until the transaction ends.
SELECT inbox_id FROM inbox_usage WHERE inbox_id = $1 FOR UPDATE;

-- name: delete_emails
-- An inbox's rows of messages; what they were decides which counts go down.
DELETE FROM emails
WHERE id = ANY ($2::uuid[]) AND inbox_id = $1
RETURNING message_id, thread_id, direction, is_read, is_archived, size;

-- name: delete_empty_thread
-- A thread goes with its last email.
DELETE FROM threads t WHERE t.id = $1 AND NOT EXISTS (SELECT FROM emails e WHERE e.thread_id = t.id);

-- name: shrink_thread
-- A thread that lost $2 emails shows what is left of it. $3 characters of a snippet
UPDATE threads t
SET message_count = t.message_count - $2::integer,
    first_message_at = oldest.at,
    last_message_at = newest.at,
    last_direction = newest.direction,
    last_email_id = newest.id,
    snippet = newest.snippet,
    has_attachments = t.has_attachments AND EXISTS (
        SELECT FROM emails e JOIN messages m ON m.id = e.message_id
        WHERE e.thread_id = t.id AND m.attachments::text <> '[]'
    )
FROM (
    SELECT m.received_at AS at
    FROM emails e JOIN messages m ON m.id = e.message_id
    WHERE e.thread_id = $1 ORDER BY e.id LIMIT 1
) oldest, (
    SELECT e.id, e.direction, m.received_at AS at,
           left(btrim(regexp_replace(left(coalesce(m.body_text, ''), 4 * $3::integer), '\s+', ' ', 'g')), $3) AS snippet
    FROM emails e JOIN messages m ON m.id = e.message_id
    WHERE e.thread_id = $1 ORDER BY e.id DESC LIMIT 1
) newest
WHERE t.id = $1;

-- name: lock_message
-- Two inboxes that let go of a message at once do so one after the other: the second one sees that it is the last.
SELECT id FROM messages WHERE id = $1 FOR UPDATE;

-- name: delete_settled_deliveries
-- The deliveries of a message that no inbox holds any more, unless one of them is still on its way or its sender has
-- still to be told how it ended.
DELETE FROM deliveries d
WHERE d.message_id = $1
  AND NOT EXISTS (SELECT FROM emails e WHERE e.message_id = d.message_id)
  AND NOT EXISTS (SELECT FROM deliveries o WHERE o.message_id = d.message_id
                  AND (o.state IN ('queued', 'leased', 'deferred', 'held') OR o.notice IS NOT NULL));

-- name: delete_unreferenced_message
-- The bytes go when nothing refers to them any more.
DELETE FROM messages m
WHERE m.id = $1
  AND NOT EXISTS (SELECT FROM emails e WHERE e.message_id = m.id)
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.message_id = m.id);

-- name: leave_over
-- A message that no inbox holds any more while a delivery carries it: upkeep comes back for it.
INSERT INTO leftover_messages (message_id)
SELECT m.id FROM messages m
WHERE m.id = $1 AND NOT EXISTS (SELECT FROM emails e WHERE e.message_id = m.id)
ON CONFLICT DO NOTHING;

-- name: list_threads
-- Conversations of an inbox, the one with the newest email first, from before the email $2 (null: from the top). The
-- inner LIMIT is what a page can hold, written out so that the planner knows how little is wanted.
SELECT id, subject, snippet, message_count, first_message_at, last_message_at, last_direction, has_attachments,
       last_email_id
FROM (
    SELECT * FROM threads
    WHERE inbox_id = $1 AND last_email_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    ORDER BY last_email_id DESC
    LIMIT 101
) page
ORDER BY last_email_id DESC
LIMIT $3;

-- name: thread
-- One conversation.
SELECT id, subject, snippet, message_count, first_message_at, last_message_at, last_direction, has_attachments,
       last_email_id
FROM threads
WHERE id = $2 AND inbox_id = $1;

-- name: emails_of_thread
-- Ids of a conversation's emails, oldest first, from after the email $3 (null: from the beginning).
SELECT id
FROM (
    SELECT id FROM emails
    WHERE thread_id = $2 AND inbox_id = $1 AND id > coalesce($3::uuid, '00000000-0000-0000-0000-000000000000')
    ORDER BY id
    LIMIT 101
) page
ORDER BY id
LIMIT $4;
