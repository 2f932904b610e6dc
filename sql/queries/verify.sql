-- name: sizes
-- About how many rows there are in each table, for a progress bar; nothing is counted. $1 table names
SELECT c.relname AS name, c.reltuples::bigint AS rows
FROM pg_class c
WHERE c.oid = ANY ($1::text[]::regclass[]);

-- name: some_messages
-- A batch of messages by id, with how much there is to read. $1 after this id, $2 rows
SELECT id, raw_size AS octets FROM messages WHERE id > $1 ORDER BY id LIMIT $2;

-- name: some_emails
-- A batch of emails by id. $1 after this id, $2 rows
SELECT id FROM emails WHERE id > $1 ORDER BY id LIMIT $2;

-- name: some_threads
-- A batch of threads by id. $1 after this id, $2 rows
SELECT id FROM threads WHERE id > $1 ORDER BY id LIMIT $2;

-- name: some_inboxes
-- A batch of inboxes by id, removed ones too: upkeep has not emptied them yet. What there is to read are rows of their
-- emails, a few hundred octets each. $1 after this id, $2 rows
SELECT i.id, coalesce(u.unread + u.read + u.archived_unread + u.archived_read, 0) * 320 AS octets
FROM inboxes i LEFT JOIN inbox_usage u ON u.inbox_id = i.id
WHERE i.id > $1 ORDER BY i.id LIMIT $2;

-- name: some_deliveries
-- A batch of deliveries by id. $1 after this id, $2 rows
SELECT id FROM deliveries WHERE id > $1 ORDER BY id LIMIT $2;

-- name: some_keys
-- A batch of bearer keys by id. $1 after this id, $2 rows
SELECT id FROM access_keys WHERE id > $1 ORDER BY id LIMIT $2;

-- name: some_webhooks
-- A batch of webhooks by id. $1 after this id, $2 rows
SELECT id FROM webhooks WHERE id > $1 ORDER BY id LIMIT $2;

-- name: changed_messages
-- Of these messages, those whose bytes are not what was stored. PostgreSQL computes; no byte leaves it.
SELECT id,
       CASE WHEN octet_length(raw) <> raw_size
            THEN format('holds %s bytes, was stored with %s', octet_length(raw), raw_size)
            ELSE 'the SHA-256 of its bytes is not the stored one' END AS problem
FROM (
    SELECT id, coalesce(raw, pieces_of(id), ''::bytea) AS raw, raw_size, raw_sha256 FROM messages
    WHERE id = ANY ($1::uuid[]) OFFSET 0
) AS m
WHERE octet_length(raw) <> raw_size OR sha256(raw) <> raw_sha256;

-- name: orphaned_messages
-- Of these messages, those that no inbox holds and no delivery carries.
SELECT m.id, 'no email and no delivery refers to it' AS problem
FROM messages m
WHERE m.id = ANY ($1::uuid[])
  AND NOT EXISTS (SELECT FROM emails e WHERE e.message_id = m.id)
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.message_id = m.id);

-- name: lost_emails
-- Of these emails, those that point at nothing, or into another tenant's rows.
SELECT e.id, found.problem
FROM emails e
LEFT JOIN messages m ON m.id = e.message_id
LEFT JOIN inboxes i ON i.id = e.inbox_id
CROSS JOIN LATERAL (
    SELECT 'its message is not there' WHERE m.id IS NULL
    UNION ALL
    SELECT 'its inbox is not there, or belongs to another tenant'
    WHERE i.id IS NULL OR (i.organisation_id, i.domain_id) <> (e.organisation_id, e.domain_id)
) AS found (problem)
WHERE e.id = ANY ($1::uuid[]);

-- name: misfiled_emails
-- Of these emails, those whose thread is not there or is another inbox's.
SELECT e.id, CASE WHEN t.id IS NULL THEN 'its thread is not there' ELSE 'its thread is another inbox''s' END AS problem
FROM emails e
LEFT JOIN threads t ON t.id = e.thread_id
WHERE e.id = ANY ($1::uuid[]) AND t.inbox_id IS DISTINCT FROM e.inbox_id;

-- name: miscopied_emails
-- Of these emails, those whose copies of their message's size or Message-ID are wrong.
SELECT e.id, found.problem
FROM emails e
JOIN messages m ON m.id = e.message_id
CROSS JOIN LATERAL (
    SELECT format('charged with %s bytes, its message has %s', e.size, m.raw_size) WHERE e.size <> m.raw_size
    UNION ALL
    SELECT 'replies cannot find it: its key is not that of its Message-ID'
    WHERE e.message_key IS DISTINCT FROM
          left(encode(sha256(convert_to(nullif(m.rfc_message_id, ''), 'UTF8')), 'hex'), 32)::uuid
) AS found (problem)
WHERE e.id = ANY ($1::uuid[]);

-- name: recopy_email
-- Takes size and key anew from the message; the counts of its inbox are recounted after that.
UPDATE emails e
SET size = m.raw_size, message_key = left(encode(sha256(convert_to(nullif(m.rfc_message_id, ''), 'UTF8')), 'hex'), 32)::uuid
FROM messages m
WHERE e.id = $1 AND m.id = e.message_id;

-- name: place_of_email
-- The inbox and the thread of an email.
SELECT inbox_id, thread_id FROM emails WHERE id = $1;

-- name: own_thread
-- An email that lies in another inbox's thread gets one of its own, which is made under the email's id.
UPDATE emails e SET thread_id = e.id
WHERE e.id = $1 AND EXISTS (SELECT FROM threads t WHERE t.id = e.thread_id AND t.inbox_id <> e.inbox_id)
RETURNING e.thread_id;

-- name: wrong_threads
-- Of these threads, those that tell something else than their emails do.
SELECT t.id, found.problem
FROM threads t
CROSS JOIN LATERAL (
    SELECT count(*) AS emails FROM emails e WHERE e.thread_id = t.id AND e.inbox_id = t.inbox_id
) counted
LEFT JOIN LATERAL (
    SELECT e.id, e.direction, m.received_at
    FROM emails e JOIN messages m ON m.id = e.message_id
    WHERE e.thread_id = t.id AND e.inbox_id = t.inbox_id ORDER BY e.id DESC LIMIT 1
) newest ON true
CROSS JOIN LATERAL (
    SELECT 'it has no email' WHERE counted.emails = 0
    UNION ALL
    SELECT format('says %s emails, has %s', t.message_count, counted.emails)
    WHERE counted.emails > 0 AND t.message_count <> counted.emails
    UNION ALL
    SELECT 'its last email is another one'
    WHERE (t.last_email_id, t.last_direction, t.last_message_at)
          IS DISTINCT FROM (newest.id, newest.direction, newest.received_at) AND counted.emails > 0
    UNION ALL
    SELECT 'says it has attachments, or has not, wrongly'
    WHERE counted.emails > 0 AND t.has_attachments <> EXISTS (
        SELECT FROM emails e JOIN messages m ON m.id = e.message_id
        WHERE e.thread_id = t.id AND e.inbox_id = t.inbox_id AND m.attachments::text <> '[]')
) AS found (problem)
WHERE t.id = ANY ($1::uuid[]);

-- name: inbox_of_thread
-- Whose counts are to be locked before a thread is changed.
SELECT inbox_id FROM threads WHERE id = $1;

-- name: delete_empty_thread
-- A thread without an email shows nothing.
DELETE FROM threads t
WHERE t.id = $1 AND NOT EXISTS (SELECT FROM emails e WHERE e.thread_id = t.id AND e.inbox_id = t.inbox_id);

-- name: rebuild_thread
-- A thread as its emails tell it, made if it is not there. $1 thread, $2 its inbox, $3 characters of a snippet
INSERT INTO threads (id, organisation_id, domain_id, inbox_id, subject, snippet, first_message_at, last_message_at,
                     last_direction, last_email_id, message_count, has_attachments)
SELECT $1, newest.organisation_id, newest.domain_id, $2, oldest.subject,
       left(btrim(regexp_replace(left(coalesce(newest.body_text, ''), 4 * $3::integer), '\s+', ' ', 'g')), $3),
       oldest.received_at, newest.received_at, newest.direction, newest.id, whole.emails, whole.has_attachments
FROM (
    SELECT e.id, e.organisation_id, e.domain_id, e.direction, m.received_at, m.body_text
    FROM emails e JOIN messages m ON m.id = e.message_id
    WHERE e.thread_id = $1 AND e.inbox_id = $2 ORDER BY e.id DESC LIMIT 1
) newest, (
    SELECT m.subject, m.received_at
    FROM emails e JOIN messages m ON m.id = e.message_id
    WHERE e.thread_id = $1 AND e.inbox_id = $2 ORDER BY e.id LIMIT 1
) oldest, (
    SELECT count(*) AS emails, bool_or(m.attachments::text <> '[]') AS has_attachments
    FROM emails e JOIN messages m ON m.id = e.message_id
    WHERE e.thread_id = $1 AND e.inbox_id = $2
) whole
ON CONFLICT (id) DO UPDATE
SET snippet = excluded.snippet, first_message_at = excluded.first_message_at,
    last_message_at = excluded.last_message_at, last_direction = excluded.last_direction,
    last_email_id = excluded.last_email_id, message_count = excluded.message_count,
    has_attachments = excluded.has_attachments;

-- name: wrong_counts
-- Of these inboxes, those whose kept counts are not what counting gives. In one statement both are seen at the same
-- moment, so that mail that is being filed now counts on both sides or on neither.
SELECT i.id, found.problem
FROM inboxes i
LEFT JOIN inbox_usage u ON u.inbox_id = i.id
CROSS JOIN LATERAL (
    SELECT coalesce(sum(e.size), 0)::bigint AS used_bytes,
           count(*) FILTER (WHERE NOT e.is_archived AND NOT e.is_read) AS unread,
           count(*) FILTER (WHERE NOT e.is_archived AND e.is_read) AS read,
           count(*) FILTER (WHERE e.is_archived AND NOT e.is_read) AS archived_unread,
           count(*) FILTER (WHERE e.is_archived AND e.is_read) AS archived_read,
           count(*) FILTER (WHERE e.direction = 'inbound' AND NOT e.is_archived AND NOT e.is_read) AS inbound_unread
    FROM emails e WHERE e.inbox_id = i.id
) counted
CROSS JOIN LATERAL (
    SELECT 'it has no counts' WHERE u.inbox_id IS NULL
    UNION ALL
    SELECT format('%s is kept as %s, counted %s', c.name, c.kept, c.counted)
    FROM (VALUES ('used_bytes', u.used_bytes, counted.used_bytes),
                 ('unread', u.unread, counted.unread),
                 ('read', u.read, counted.read),
                 ('archived_unread', u.archived_unread, counted.archived_unread),
                 ('archived_read', u.archived_read, counted.archived_read),
                 ('inbound_unread', u.inbound_unread, counted.inbound_unread)) AS c (name, kept, counted)
    WHERE c.kept <> c.counted
) AS found (problem)
WHERE i.id = ANY ($1::uuid[]);

-- name: add_missing_counts
-- The row of counts that an inbox lacks.
INSERT INTO inbox_usage (inbox_id) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: lock_counts
-- Nothing else is filed into, changed in or removed from this inbox until the transaction ends.
SELECT inbox_id FROM inbox_usage WHERE inbox_id = $1 FOR UPDATE;

-- name: recount
-- The counts of an inbox as counting gives them, under the lock that every writer takes.
UPDATE inbox_usage u
SET used_bytes = c.used_bytes, unread = c.unread, read = c.read, archived_unread = c.archived_unread,
    archived_read = c.archived_read, inbound_unread = c.inbound_unread
FROM (
    SELECT coalesce(sum(e.size), 0) AS used_bytes,
           count(*) FILTER (WHERE NOT e.is_archived AND NOT e.is_read) AS unread,
           count(*) FILTER (WHERE NOT e.is_archived AND e.is_read) AS read,
           count(*) FILTER (WHERE e.is_archived AND NOT e.is_read) AS archived_unread,
           count(*) FILTER (WHERE e.is_archived AND e.is_read) AS archived_read,
           count(*) FILTER (WHERE e.direction = 'inbound' AND NOT e.is_archived AND NOT e.is_read) AS inbound_unread
    FROM emails e WHERE e.inbox_id = $1
) c
WHERE u.inbox_id = $1;

-- name: wrong_deliveries
-- Of these deliveries, those whose state and times contradict each other, or whose message is not there.
SELECT d.id, found.problem
FROM deliveries d
CROSS JOIN LATERAL (
    SELECT 'its message is not there' WHERE NOT EXISTS (SELECT FROM messages m WHERE m.id = d.message_id)
    UNION ALL
    SELECT format('%s after %s attempts, none of which has a time', d.state, d.attempts)
    WHERE d.attempts > 0 AND d.last_attempt_at IS NULL
) AS found (problem)
WHERE d.id = ANY ($1::uuid[]);

-- name: wrongly_settled
-- Of these deliveries, those that have ended without a time of their end, or have one and go on.
SELECT id,
       CASE WHEN settled_at IS NULL THEN format('%s without a time of its end', state)
            ELSE format('%s, and yet ended at %s', state, settled_at) END AS problem
FROM deliveries
WHERE id = ANY ($1::uuid[])
  AND (settled_at IS NOT NULL) <> (state IN ('delivered', 'bounced', 'suppressed', 'expired', 'cancelled'));

-- name: resettle
-- The time of its end, as its state asks: none while it goes on, else that of its last attempt.
UPDATE deliveries
SET settled_at = CASE WHEN state IN ('delivered', 'bounced', 'suppressed', 'expired', 'cancelled')
                      THEN coalesce(last_attempt_at, created_at) END
WHERE id = $1
  AND (settled_at IS NOT NULL) <> (state IN ('delivered', 'bounced', 'suppressed', 'expired', 'cancelled'));

-- name: bad_leases
-- Of these deliveries, those under a lease that nobody took over for two minutes, or that is longer than a week.
SELECT id,
       CASE WHEN lease_until < now() THEN format('its lease ended at %s and nobody took it over', lease_until)
            ELSE format('its lease goes on until %s', lease_until) END AS problem
FROM deliveries
WHERE id = ANY ($1::uuid[]) AND state = 'leased'
  AND lease_until NOT BETWEEN now() - interval '2 minutes' AND now() + interval '7 days';

-- name: end_lease
-- Such a lease is over, so that the work is taken over like that of any dead owner.
UPDATE deliveries SET lease_until = now() - interval '1 second'
WHERE id = $1 AND state = 'leased'
  AND lease_until NOT BETWEEN now() - interval '2 minutes' AND now() + interval '7 days';

-- name: stray_keys
-- Of these keys, those that open an inbox of another domain than their own.
SELECT k.id, 'it opens an inbox of another domain' AS problem
FROM access_keys k
LEFT JOIN inboxes i ON i.id = k.inbox_id
WHERE k.id = ANY ($1::uuid[]) AND k.inbox_id IS NOT NULL AND i.domain_id IS DISTINCT FROM k.domain_id;

-- name: stray_webhooks
-- Of these webhooks, those that hear of somebody else's inbox, or are told of what was removed.
SELECT w.id,
       CASE WHEN i.domain_id <> w.domain_id THEN 'hears of an inbox that is not of its domain'
            ELSE 'is told of what was removed' END AS problem
FROM webhooks w
JOIN domains d ON d.id = w.domain_id
LEFT JOIN inboxes i ON i.id = w.inbox_id
WHERE w.id = ANY ($1::uuid[]) AND w.removed_at IS NULL
  AND (i.domain_id <> w.domain_id OR d.removed_at IS NOT NULL OR i.removed_at IS NOT NULL);
