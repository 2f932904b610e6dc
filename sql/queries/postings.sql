-- name: lock_usage
-- The inboxes a batch files into, locked in one order so that two batches never wait for each other in a ring.
SELECT u.inbox_id, u.used_bytes, i.storage_quota_bytes
FROM inbox_usage u
JOIN inboxes i ON i.id = u.inbox_id
WHERE u.inbox_id = ANY ($1::uuid[]) AND i.removed_at IS NULL
ORDER BY u.inbox_id
FOR UPDATE OF u;

-- name: threads_of_references
-- Which threads the referenced messages are in, looked up inside their own inbox only.
SELECT e.inbox_id, e.message_key, e.thread_id
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (inbox_id, message_key)
JOIN emails e ON e.inbox_id = wanted.inbox_id AND e.message_key = wanted.message_key;

-- name: insert_message
-- One message: its bytes and what was read out of them.
INSERT INTO messages (id, raw, raw_sha256, raw_size, trace, rfc_message_id, in_reply_to, reference_ids, subject,
                      from_address, from_name, envelope_from, sender_warning, to_addresses, cc_addresses, bcc_addresses,
                      reply_to, body_text, body_html, attachments, authentication, received_at, notes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23);

-- name: take_back_messages
-- Messages whose postings were refused after their bytes were written, in the same transaction.
DELETE FROM messages WHERE id = ANY ($1::uuid[]);

-- name: file
-- What a batch adds to its inboxes, in one statement: the emails, the threads they open, the kept counts.
WITH filed AS (
    INSERT INTO emails (id, organisation_id, domain_id, inbox_id, message_id, thread_id, direction, is_read,
                        is_archived, size, message_key, created_at)
    SELECT id, organisation_id, domain_id, inbox_id, message_id, thread_id, direction, is_read, false, size,
           message_key, created_at
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::text[], $8::boolean[],
                $9::integer[], $10::uuid[], $11::timestamptz[])
         AS new (id, organisation_id, domain_id, inbox_id, message_id, thread_id, direction, is_read, size,
                 message_key, created_at)
), opened AS (
    INSERT INTO threads (id, organisation_id, domain_id, inbox_id, subject, snippet, first_message_at,
                         last_message_at, last_direction, last_email_id, message_count, has_attachments)
    SELECT id, organisation_id, domain_id, inbox_id, subject, snippet, at, at, direction, email_id, 1, has_attachments
    FROM unnest($12::uuid[], $13::uuid[], $14::uuid[], $15::uuid[], $16::text[], $17::text[], $18::timestamptz[],
                $19::text[], $20::uuid[], $21::boolean[])
         AS new (id, organisation_id, domain_id, inbox_id, subject, snippet, at, direction, email_id, has_attachments)
)
UPDATE inbox_usage u
SET used_bytes = u.used_bytes + d.bytes,
    unread = u.unread + d.unread,
    read = u.read + d.read,
    archived_unread = u.archived_unread + d.archived_unread,
    archived_read = u.archived_read + d.archived_read,
    inbound_unread = u.inbound_unread + d.inbound_unread
FROM unnest($22::uuid[], $23::bigint[], $24::bigint[], $25::bigint[], $26::bigint[], $27::bigint[], $28::bigint[])
     AS d (inbox_id, bytes, unread, read, archived_unread, archived_read, inbound_unread)
WHERE u.inbox_id = d.inbox_id;

-- name: is_running
-- Whether the transaction of a server process is still under way: its commit may yet come. $1 its id
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND backend_xid IS NOT NULL);

-- name: is_stored
-- Whether a message is there, and so all that was written with it.
SELECT EXISTS (SELECT FROM messages WHERE id = $1);

-- name: extend_thread
-- A thread gets one more email. It shows the newest one, which this need not be: two processes may file into one thread
-- in the other order than they received, and mail that is imported has its old place.
UPDATE threads
SET snippet = CASE WHEN $5 > last_email_id THEN $2 ELSE snippet END,
    last_message_at = CASE WHEN $5 > last_email_id THEN $3 ELSE last_message_at END,
    last_direction = CASE WHEN $5 > last_email_id THEN $4 ELSE last_direction END,
    last_email_id = greatest(last_email_id, $5),
    first_message_at = least(first_message_at, $3),
    message_count = message_count + 1,
    has_attachments = has_attachments OR $6
WHERE id = $1;

-- name: reopen_thread
-- The thread of an answer whose last other email was deleted while the answer was written.
INSERT INTO threads (id, organisation_id, domain_id, inbox_id, subject, snippet, first_message_at, last_message_at,
                     last_direction, last_email_id, message_count, has_attachments)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9, 1, $10);

-- name: mark_answered
-- The email that a reply answers becomes read; returns it if it was not.
UPDATE emails SET is_read = true
WHERE id = $1 AND inbox_id = $2 AND NOT is_read
RETURNING direction, is_archived;

-- name: add_usage
-- Kept counts follow what was filed.
UPDATE inbox_usage u
SET used_bytes = u.used_bytes + d.bytes,
    unread = u.unread + d.unread,
    read = u.read + d.read,
    archived_unread = u.archived_unread + d.archived_unread,
    archived_read = u.archived_read + d.archived_read,
    inbound_unread = u.inbound_unread + d.inbound_unread
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
     AS d (inbox_id, bytes, unread, read, archived_unread, archived_read, inbound_unread)
WHERE u.inbox_id = d.inbox_id;

-- name: keep_answer
-- The answer that a repeated request will get.
UPDATE idempotency_keys SET status = $4, answer = $5 WHERE inbox_id = $1 AND route = $2 AND key = $3;
