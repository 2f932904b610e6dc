-- name: tables
-- Every table of ours that is kept, with its columns in order, and the tables its foreign keys need to be filled before it.
SELECT c.relname AS name,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
             ORDER BY a.attnum) AS columns,
       ARRAY(SELECT DISTINCT needed.relname::text FROM pg_constraint k JOIN pg_class needed ON needed.oid = k.confrelid
             WHERE k.conrelid = c.oid AND k.contype = 'f' AND needed.oid <> c.oid) AS needs
FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relpersistence = 'p'
  AND c.relname <> 'schema_migrations'
ORDER BY c.relname;

-- name: migrations
-- What the schema consists of.
SELECT name FROM schema_migrations ORDER BY name;

-- name: next_message
-- The first message at or behind an id.
SELECT id FROM messages WHERE id >= $1 ORDER BY id LIMIT 1;

-- name: messages_between
-- How many messages there are from one id up to another, and a digest of which; the index alone is read.
SELECT count(*) AS rows, encode(sha256(coalesce(string_agg(uuid_send(id), ''::bytea ORDER BY id), '')), 'hex') AS digest
FROM messages
WHERE id >= $1 AND id < $2;

-- name: messages_of_day
-- Messages from one id up to another, whole.
SELECT * FROM messages WHERE id >= $1 AND id < $2 ORDER BY id;

-- name: next_in_pieces
-- The first message in pieces at or behind an id.
SELECT message_id FROM message_pieces WHERE message_id >= $1 ORDER BY message_id, number LIMIT 1;

-- name: in_pieces_between
-- How many messages in pieces there are from one id up to another, and a digest of which; the index alone is read.
SELECT count(*) AS rows,
       encode(sha256(coalesce(string_agg(uuid_send(message_id), ''::bytea ORDER BY message_id), '')), 'hex') AS digest
FROM message_pieces
WHERE message_id >= $1 AND message_id < $2 AND number = 0;

-- name: pieces_of_day
-- The pieces of messages from one id up to another, whole.
SELECT * FROM message_pieces WHERE message_id >= $1 AND message_id < $2 ORDER BY message_id, number;

-- name: holds_something
-- Whether anybody has something to lose in this database.
SELECT EXISTS (SELECT FROM organisations) OR EXISTS (SELECT FROM messages);

-- name: drop_unheld_messages
-- Messages that came with their day's file and that nobody holds.
DELETE FROM messages m
WHERE NOT EXISTS (SELECT FROM emails e WHERE e.message_id = m.id)
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.message_id = m.id);

-- name: hold_queue
-- Nothing that was on its way goes out before the operator says so.
UPDATE deliveries SET state = 'held', lease_owner = NULL, lease_until = NULL
WHERE state IN ('queued', 'leased', 'deferred');

-- name: hold_webhooks
-- Nor is anybody told of what waits, nor of what happens in a copy that is only being looked at.
UPDATE webhooks SET disabled_at = now(), disabled_reason = 'restored from a backup, held'
WHERE disabled_at IS NULL;

-- name: analyse
-- The planner learns what is there now.
ANALYZE;
