-- The house: tenants, mail, threads, deliveries and events.
-- Ids are UUIDv7 made by the program, so they sort by time and lists are walked by id.
-- Whatever a tenant owns carries its organisation and domain, so that tables can be sharded by them.

CREATE TABLE organisations (
    id          uuid PRIMARY KEY,
    name        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- A domain is pending until its DNS shows our token; the verification TXT stays the same for one pending life.
CREATE TABLE domains (
    id                  uuid PRIMARY KEY,
    organisation_id     uuid NOT NULL REFERENCES organisations,
    name                text NOT NULL CHECK (name = lower(name)),   -- A-labels
    state               text NOT NULL CHECK (state IN ('pending', 'verified')),
    verification_value  text NOT NULL,                              -- what the _clawmail TXT record has to say
    trusted             boolean NOT NULL DEFAULT false,             -- verified by the operator's word
    pending_until       timestamptz,
    created_at          timestamptz NOT NULL DEFAULT now(),
    verified_at         timestamptz,
    removed_at          timestamptz,
    CONSTRAINT domains_verified_has_time CHECK (state <> 'verified' OR verified_at IS NOT NULL)
);
CREATE UNIQUE INDEX domains_live_name ON domains (name) WHERE removed_at IS NULL;
CREATE INDEX domains_removed ON domains (removed_at) WHERE removed_at IS NOT NULL;      -- upkeep empties them

-- One domain signs with its one active key; a next key waits until its record is seen, then the old one retires.
CREATE TABLE dkim_keys (
    id              uuid PRIMARY KEY,
    domain_id       uuid NOT NULL REFERENCES domains,
    selector        text NOT NULL,
    algorithm       text NOT NULL CHECK (algorithm IN ('rsa-sha256', 'ed25519-sha256')),
    private_sealed  bytea NOT NULL,                                 -- AES-256-GCM, bound to this row's id
    public_record   text NOT NULL,                                  -- v=DKIM1; k=…; p=…
    state           text NOT NULL CHECK (state IN ('waiting', 'active', 'retired')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    activated_at    timestamptz,
    retired_at      timestamptz,
    UNIQUE (domain_id, selector)
);
CREATE UNIQUE INDEX dkim_keys_one_active ON dkim_keys (domain_id, algorithm) WHERE state = 'active';
CREATE UNIQUE INDEX dkim_keys_one_waiting ON dkim_keys (domain_id, algorithm) WHERE state = 'waiting';

CREATE TABLE inboxes (
    id                   uuid PRIMARY KEY,
    organisation_id      uuid NOT NULL REFERENCES organisations,
    domain_id            uuid NOT NULL REFERENCES domains,
    local_part           text NOT NULL,
    address              text NOT NULL,
    is_catch_all         boolean NOT NULL DEFAULT false,
    storage_quota_bytes  bigint NOT NULL CHECK (storage_quota_bytes >= 0),
    created_at           timestamptz NOT NULL DEFAULT now(),
    removed_at           timestamptz
);
CREATE UNIQUE INDEX inboxes_live_address ON inboxes (lower(address)) WHERE removed_at IS NULL;
CREATE INDEX inboxes_of_domain ON inboxes (domain_id, id) WHERE removed_at IS NULL;
CREATE INDEX inboxes_removed ON inboxes (removed_at) WHERE removed_at IS NOT NULL;      -- upkeep empties them

-- Kept counts: what the API shows is never counted on the way. `clawmail verify` recounts them.
CREATE TABLE inbox_usage (
    inbox_id          uuid PRIMARY KEY REFERENCES inboxes ON DELETE CASCADE,
    used_bytes        bigint NOT NULL DEFAULT 0 CHECK (used_bytes >= 0),
    unread            bigint NOT NULL DEFAULT 0,    -- not archived, not read, any direction
    read              bigint NOT NULL DEFAULT 0,    -- not archived, read
    archived_unread   bigint NOT NULL DEFAULT 0,
    archived_read     bigint NOT NULL DEFAULT 0,
    inbound_unread    bigint NOT NULL DEFAULT 0     -- inbound, not archived, not read: the API's unread_count
) WITH (fillfactor = 50);

-- Every kind of bearer key. The text of a key is shown once; kept are its prefix, for look-up, and an argon2id hash.
CREATE TABLE access_keys (
    id               uuid PRIMARY KEY,
    organisation_id  uuid NOT NULL REFERENCES organisations,
    domain_id        uuid NOT NULL REFERENCES domains,
    inbox_id         uuid REFERENCES inboxes,
    kind             text NOT NULL CHECK (kind IN ('domain', 'creation', 'inbox')),
    prefix           text NOT NULL,
    secret_hash      text NOT NULL,
    label            text NOT NULL DEFAULT '',
    created_at       timestamptz NOT NULL DEFAULT now(),
    last_used_at     timestamptz,
    expires_at       timestamptz,
    used_at          timestamptz,                                   -- a creation key opens once
    revoked_at       timestamptz,
    CONSTRAINT access_keys_inbox_kind CHECK ((kind = 'inbox') = (inbox_id IS NOT NULL))
);
CREATE INDEX access_keys_prefix ON access_keys (prefix);
CREATE INDEX access_keys_of_domain ON access_keys (domain_id, id);
CREATE INDEX access_keys_of_inbox ON access_keys (inbox_id) WHERE inbox_id IS NOT NULL;

CREATE TABLE forwarding_rules (
    id                 uuid PRIMARY KEY,
    organisation_id    uuid NOT NULL REFERENCES organisations,
    domain_id          uuid NOT NULL REFERENCES domains,
    match_field        text NOT NULL CHECK (match_field IN ('from', 'to', 'subject')),
    regex_pattern      text NOT NULL CHECK (length(regex_pattern) BETWEEN 1 AND 1024),
    destination_email  text NOT NULL,
    is_active          boolean NOT NULL DEFAULT true,
    created_at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX forwarding_rules_of_domain ON forwarding_rules (domain_id, id);

-- A message: the bytes exactly as sent, once, and what was read out of them. Never changed after the insert.
-- It belongs to the emails and deliveries that point at it and goes when the last of them goes.
CREATE TABLE messages (
    id               uuid PRIMARY KEY,
    raw              bytea NOT NULL,
    raw_sha256       bytea NOT NULL,
    raw_size         integer NOT NULL,
    trace            bytea NOT NULL,            -- Return-Path, Received, Authentication-Results put on top of it
    rfc_message_id   text,                      -- as sent, with its angle brackets
    in_reply_to      text,
    reference_ids    text[] NOT NULL,
    subject          text NOT NULL,
    from_address     text NOT NULL,
    from_name        text NOT NULL,
    envelope_from    text NOT NULL,             -- '' is the null sender
    sender_warning   text,
    to_addresses     text[] NOT NULL,
    cc_addresses     text[] NOT NULL,
    bcc_addresses    text[] NOT NULL,           -- of mail sent from here; shown to its sender only
    reply_to         text[] NOT NULL,
    body_text        text,
    body_html        text,
    attachments      json NOT NULL,             -- [{filename, content_type, size, content_id, disposition, sha256}]
    authentication   json,                      -- the authentication_results object of the API; null on mail sent from here
    received_at      timestamptz NOT NULL
) WITH (toast_tuple_target = 8160);
-- Mail is mostly base64 already: trying to compress it costs more than it saves.
ALTER TABLE messages ALTER COLUMN raw SET STORAGE EXTERNAL;

CREATE TABLE threads (
    id                uuid PRIMARY KEY,
    organisation_id   uuid NOT NULL,
    domain_id         uuid NOT NULL,
    inbox_id          uuid NOT NULL REFERENCES inboxes,
    subject           text NOT NULL,
    snippet           text NOT NULL,            -- first 200 characters of the newest text
    first_message_at  timestamptz NOT NULL,
    last_message_at   timestamptz NOT NULL,
    last_direction    text NOT NULL,
    last_email_id     uuid NOT NULL,
    message_count     integer NOT NULL CHECK (message_count >= 0),
    has_attachments   boolean NOT NULL
);
CREATE INDEX threads_of_inbox ON threads (inbox_id, last_email_id DESC);                -- the thread list, by cursor

-- An email: one inbox's own small row for a message.
CREATE TABLE emails (
    id               uuid PRIMARY KEY,
    organisation_id  uuid NOT NULL,
    domain_id        uuid NOT NULL,
    inbox_id         uuid NOT NULL REFERENCES inboxes,
    message_id       uuid NOT NULL REFERENCES messages,
    thread_id        uuid NOT NULL,
    direction        text NOT NULL CHECK (direction IN ('inbound', 'outbound')),
    is_read          boolean NOT NULL,
    is_archived      boolean NOT NULL,
    size             integer NOT NULL,          -- raw bytes charged to the quota
    message_key      uuid,                      -- hash of the Message-ID: how replies find their thread
    created_at       timestamptz NOT NULL
);
CREATE INDEX emails_list ON emails (inbox_id, is_archived, id DESC);                    -- the list, newest first
CREATE INDEX emails_list_by_read ON emails (inbox_id, is_archived, is_read, id DESC);   -- the same with is_read
CREATE INDEX emails_by_message_key ON emails (inbox_id, message_key) WHERE message_key IS NOT NULL;
CREATE INDEX emails_of_thread ON emails (thread_id, id);
CREATE INDEX emails_of_message ON emails (message_id);

-- One delivery per recipient of a message on its way out. Moves of `state`: model/delivery.py, and nowhere else.
CREATE TABLE deliveries (
    id                uuid PRIMARY KEY,
    organisation_id   uuid NOT NULL,
    domain_id         uuid NOT NULL,
    inbox_id          uuid,                     -- whose outbox; null for what the server itself sends
    email_id          uuid,                     -- the outbound email this belongs to; null for forwards and bounces
    rule_id           uuid,                     -- the forwarding rule that made it
    message_id        uuid NOT NULL REFERENCES messages,
    prefix            bytea NOT NULL DEFAULT '',    -- fields put on top of the raw bytes for this delivery (ARC seal, DKIM of a rewritten From)
    kind              text NOT NULL CHECK (kind IN ('send', 'forward', 'bounce')),
    envelope_from     text NOT NULL,            -- '' is the null sender
    recipient         text NOT NULL,
    destination       text NOT NULL,            -- who is dialled: the recipient's domain until its MX set is known
    state             text NOT NULL CHECK (state IN
                      ('queued', 'leased', 'deferred', 'delivered', 'bounced', 'suppressed', 'expired', 'held', 'cancelled')),
    attempts          integer NOT NULL DEFAULT 0,
    next_attempt_at   timestamptz NOT NULL,
    last_attempt_at   timestamptz,
    last_reply        text,
    last_host         text,                     -- the MX that gave it
    lease_owner       uuid,
    lease_fence       bigint NOT NULL DEFAULT 0,    -- counts claims: a late owner's fence no longer matches
    lease_until       timestamptz,
    options           jsonb NOT NULL DEFAULT '{}',  -- DSN notify/ret/envid/orcpt, require_tls, smtputf8
    created_at        timestamptz NOT NULL,
    settled_at        timestamptz,
    notice            text CHECK (notice IN ('delayed', 'failed', 'delivered')),  -- what its sender has still to be told
    delay_noticed     boolean NOT NULL DEFAULT false,
    CONSTRAINT deliveries_lease CHECK ((state = 'leased') = (lease_owner IS NOT NULL AND lease_until IS NOT NULL))
);
-- Claiming walks two rings, so that neither a destination nor a tenant with much mail hides the others'; see
-- sql/queries/deliveries.sql, claim. Most often all that is due is few rows, and deliveries_next has them at once.
CREATE INDEX deliveries_due ON deliveries (destination, domain_id, next_attempt_at) WHERE state IN ('queued', 'deferred');
CREATE INDEX deliveries_of_tenant ON deliveries (domain_id, next_attempt_at) WHERE state IN ('queued', 'deferred');
CREATE INDEX deliveries_next ON deliveries (next_attempt_at) WHERE state IN ('queued', 'deferred');
CREATE INDEX deliveries_leases ON deliveries (lease_until) WHERE state = 'leased';      -- dead owners' work
CREATE INDEX deliveries_of_email ON deliveries (email_id) WHERE email_id IS NOT NULL;
-- Recipients of one message at one destination travel together; and a message goes with its last delivery.
CREATE INDEX deliveries_of_message ON deliveries (message_id, destination);
CREATE INDEX deliveries_of_domain ON deliveries (domain_id, id);

-- What happened, in the words all dialects translate from. Written in the transaction that made it true.
CREATE TABLE events (
    id               uuid PRIMARY KEY,
    organisation_id  uuid NOT NULL,
    domain_id        uuid NOT NULL,
    inbox_id         uuid,
    email_id         uuid,
    delivery_id      uuid,
    type             text NOT NULL CHECK (type IN
                     ('received', 'accepted', 'attempted', 'deferred', 'delivered', 'bounced', 'suppressed', 'complained')),
    recipient        text,
    detail           jsonb NOT NULL,
    at               timestamptz NOT NULL
);
CREATE INDEX events_of_email ON events (email_id, id) WHERE email_id IS NOT NULL;
CREATE INDEX events_of_inbox ON events (inbox_id, id) WHERE inbox_id IS NOT NULL;
CREATE INDEX events_of_domain ON events (domain_id, id);

-- Addresses a domain must not send to.
CREATE TABLE suppressions (
    id               uuid PRIMARY KEY,
    organisation_id  uuid NOT NULL,
    domain_id        uuid NOT NULL REFERENCES domains,
    address          text NOT NULL CHECK (address = lower(address)),
    reason           text NOT NULL CHECK (reason IN ('hard bounce', 'soft bounces', 'complaint', 'manual')),
    detail           text NOT NULL DEFAULT '',
    soft_bounces     integer NOT NULL DEFAULT 0,
    active           boolean NOT NULL,          -- false while only counting soft bounces
    created_at       timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz,
    UNIQUE (domain_id, address)
);

-- One answer per Idempotency-Key, inbox and route, for 24 hours.
CREATE TABLE idempotency_keys (
    inbox_id      uuid NOT NULL REFERENCES inboxes ON DELETE CASCADE,
    route         text NOT NULL,
    key           text NOT NULL CHECK (length(key) BETWEEN 1 AND 256),
    body_sha256   bytea NOT NULL,
    status        integer,                      -- null while in flight
    answer        bytea,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (inbox_id, route, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
