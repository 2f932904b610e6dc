-- Rows as the program hands them over, a whole row as one value: what a batch of mails writes is then a handful of
-- parameters, and lists of different lengths can stand in them. A type never changes once it is released, because
-- processes of two releases may work side by side; a statement that needs another column gets another type.

CREATE TYPE new_message AS (
    id uuid, raw bytea, raw_sha256 bytea, raw_size integer, trace bytea, rfc_message_id text, in_reply_to text,
    reference_ids text[], subject text, from_address text, from_name text, envelope_from text, sender_warning text,
    to_addresses text[], cc_addresses text[], bcc_addresses text[], reply_to text[], body_text text, body_html text,
    attachments json, authentication json, received_at timestamptz, notes text[]
);

CREATE TYPE new_email AS (
    id uuid, organisation_id uuid, domain_id uuid, inbox_id uuid, message_id uuid, thread_id uuid, direction text,
    is_read boolean, size integer, message_key uuid, created_at timestamptz
);

-- What is added to a thread: the subject if it is opened, the newest email of those that are added, and how many.
CREATE TYPE thread_change AS (
    id uuid, organisation_id uuid, domain_id uuid, inbox_id uuid, subject text, snippet text, first_at timestamptz,
    last_at timestamptz, direction text, email_id uuid, emails integer, has_attachments boolean
);

CREATE TYPE new_event AS (
    id uuid, organisation_id uuid, domain_id uuid, inbox_id uuid, email_id uuid, delivery_id uuid, type text,
    recipient text, detail jsonb, at timestamptz
);

-- What is added to the kept counts of an inbox.
CREATE TYPE usage_change AS (
    inbox_id uuid, bytes bigint, unread bigint, read bigint, archived_unread bigint, archived_read bigint,
    inbound_unread bigint
);
