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
-- One message ahead of its batch: what was read out of it, and its bytes unless pieces follow.
INSERT INTO messages (id, raw, raw_sha256, raw_size, trace, rfc_message_id, in_reply_to, reference_ids, subject,
                      from_address, from_name, envelope_from, sender_warning, to_addresses, cc_addresses, bcc_addresses,
                      reply_to, body_text, body_html, attachments, authentication, received_at, notes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23);

-- name: insert_piece
-- Some bytes of a message that was written without any.
INSERT INTO message_pieces (message_id, number, octets) VALUES ($1, $2, $3);

-- name: take_back_messages
-- Messages whose postings were refused after their bytes were written, in the same transaction.
DELETE FROM messages WHERE id = ANY ($1::uuid[]);

-- name: file
-- What a batch writes, in one statement: the messages, their emails, what is added to threads, the events, the kept
-- counts, the work for the queue. Returns whether it was done: an inbox that is gone, or one of those in $6 that has no
-- room, leaves everything undone. The inboxes are locked in one order, so that no two batches wait for each other in a
-- ring.
-- A thread that was deleted since it was looked up is there again. It shows the newest email, which need not be one of
-- these: two processes may file into one thread in the other order than they received, and mail that is imported has
-- its old place.
-- A delivery that its domain must not send is settled from the start, and told so. LIMIT makes the suppression list be
-- asked for one address at a time by its index, however the planner judges the size of a batch. What is due at once is
-- due by the database's clock, which the queue goes by: a machine whose clock is an hour ahead does not put its mail off
-- by an hour. The queue of every process is woken; that is a hint, polling is the truth.
WITH locked AS (
    SELECT u.inbox_id
    FROM unnest($5::usage_change[]) AS added
    JOIN inbox_usage u ON u.inbox_id = added.inbox_id
    JOIN inboxes i ON i.id = u.inbox_id
    WHERE i.removed_at IS NULL
      AND (added.inbox_id <> ALL ($6::uuid[]) OR u.used_bytes + added.bytes <= i.storage_quota_bytes)
    ORDER BY u.inbox_id
    FOR UPDATE OF u
), room AS (
    SELECT count(*) = cardinality($5::usage_change[]) AS enough FROM locked
), written AS (
    INSERT INTO messages (id, raw, raw_sha256, raw_size, trace, rfc_message_id, in_reply_to, reference_ids, subject,
                          from_address, from_name, envelope_from, sender_warning, to_addresses, cc_addresses,
                          bcc_addresses, reply_to, body_text, body_html, attachments, authentication, received_at,
                          notes)
    SELECT * FROM unnest($1::new_message[]) WHERE (SELECT enough FROM room)
), filed AS (
    INSERT INTO emails (id, organisation_id, domain_id, inbox_id, message_id, thread_id, direction, is_read, size,
                        message_key, created_at, is_archived)
    SELECT *, false FROM unnest($2::new_email[]) WHERE (SELECT enough FROM room)
), threaded AS (
    INSERT INTO threads AS t (id, organisation_id, domain_id, inbox_id, subject, snippet, first_message_at,
                              last_message_at, last_direction, last_email_id, message_count, has_attachments)
    SELECT * FROM unnest($3::thread_change[]) WHERE (SELECT enough FROM room)
    ON CONFLICT (id) DO UPDATE
    SET snippet = CASE WHEN excluded.last_email_id > t.last_email_id THEN excluded.snippet ELSE t.snippet END,
        last_message_at = CASE WHEN excluded.last_email_id > t.last_email_id
                               THEN excluded.last_message_at ELSE t.last_message_at END,
        last_direction = CASE WHEN excluded.last_email_id > t.last_email_id
                              THEN excluded.last_direction ELSE t.last_direction END,
        last_email_id = greatest(t.last_email_id, excluded.last_email_id),
        first_message_at = least(t.first_message_at, excluded.first_message_at),
        message_count = t.message_count + excluded.message_count,
        has_attachments = t.has_attachments OR excluded.has_attachments
), queued AS (
    INSERT INTO deliveries (id, organisation_id, domain_id, inbox_id, email_id, rule_id, message_id, prefix, kind,
                            envelope_from, recipient, destination, state, next_attempt_at, options, created_at,
                            settled_at)
    SELECT id, organisation_id, domain_id, inbox_id, email_id, rule_id, message_id, prefix, kind, envelope_from,
           recipient, destination, coalesce(listed.state, new.state),
           CASE WHEN next_attempt_at <= created_at THEN least(next_attempt_at, now()) ELSE next_attempt_at END,
           options, created_at, CASE WHEN coalesce(listed.state, new.state) = 'suppressed' THEN created_at END
    FROM unnest($7::new_delivery[]) AS new
    LEFT JOIN LATERAL (
        SELECT 'suppressed' AS state FROM suppressions s
        WHERE s.domain_id = new.domain_id AND s.address = new.listed_as
          AND s.active AND (s.expires_at IS NULL OR s.expires_at > new.created_at)
        LIMIT 1
    ) AS listed ON new.kind = 'send'
    WHERE (SELECT enough FROM room)
    RETURNING id, state
), told AS (
    INSERT INTO events (id, organisation_id, domain_id, inbox_id, email_id, delivery_id, type, recipient, detail, at)
    SELECT event_id(new.id), organisation_id, domain_id, inbox_id, email_id, delivery_id,
           CASE WHEN q.state = 'suppressed' THEN 'suppressed' ELSE type END, recipient,
           CASE WHEN q.state = 'suppressed' THEN '{"reason": "the address is on the suppression list"}' ELSE detail END,
           at
    FROM unnest($4::new_event[]) AS new
    LEFT JOIN queued q ON q.id = new.delivery_id
    WHERE (SELECT enough FROM room)
), counted AS (
    UPDATE inbox_usage u
    SET used_bytes = u.used_bytes + d.bytes,
        unread = u.unread + d.unread,
        read = u.read + d.read,
        archived_unread = u.archived_unread + d.archived_unread,
        archived_read = u.archived_read + d.archived_read,
        inbound_unread = u.inbound_unread + d.inbound_unread
    FROM unnest($5::usage_change[]) AS d
    WHERE u.inbox_id = d.inbox_id AND (SELECT enough FROM room)
)
SELECT enough, (SELECT pg_notify('deliveries', '') FROM queued WHERE state = 'queued' LIMIT 1) FROM room;

-- name: is_there
-- Whether a server process of ours is there, from which we heard no more: what it was told may still be on the line to it.
-- One that is about nothing is ended, so that it never reads that; one at work is left to it, for it may be waiting for the
-- standby. $1 its id; that it is the one that is asking means that it has read everything.
SELECT CASE WHEN state LIKE 'idle%' THEN pg_terminate_backend(pid) ELSE true END
FROM pg_stat_activity
WHERE pid = $1 AND pid <> pg_backend_pid() AND datname = current_database() AND usename = current_user;

-- name: is_stored
-- Whether a message is there, and so all that was written with it.
SELECT EXISTS (SELECT FROM messages WHERE id = $1);

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
FROM unnest($1::usage_change[]) AS d
WHERE u.inbox_id = d.inbox_id;

-- name: keep_answer
-- The answer that a repeated request will get, if the key still is this request's; a row comes back then.
UPDATE idempotency_keys SET status = $4, answer = $5
WHERE inbox_id = $1 AND route = $2 AND key = $3 AND claim = $6
RETURNING key;
