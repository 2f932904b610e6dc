-- The door: what is remembered of strangers, and what tenants say about senders.

-- Greylisting: the first mail of a network, sender and recipient waits. The three are kept as a digest, of which
-- nothing but "seen before" can be read; rows that were not heard of again are swept.
CREATE TABLE greylist (
    triplet        bytea PRIMARY KEY,           -- SHA-256 of network, sender and recipient
    first_seen_at  timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL,
    passed         boolean NOT NULL DEFAULT false
);
CREATE INDEX greylist_last_seen ON greylist (last_seen_at);                             -- the sweep

-- Networks whose mail came back after waiting: after some passes they wait no more.
CREATE TABLE greylist_networks (
    network       text PRIMARY KEY,
    passes        integer NOT NULL,
    last_seen_at  timestamptz NOT NULL
);
CREATE INDEX greylist_networks_last_seen ON greylist_networks (last_seen_at);           -- the sweep

-- Senders that a domain, or one of its inboxes, always or never hears. An inbox's word beats its domain's.
CREATE TABLE sender_rules (
    id               uuid PRIMARY KEY,
    organisation_id  uuid NOT NULL REFERENCES organisations,
    domain_id        uuid NOT NULL REFERENCES domains ON DELETE CASCADE,
    inbox_id         uuid REFERENCES inboxes ON DELETE CASCADE,     -- null: the whole domain
    verdict          text NOT NULL CHECK (verdict IN ('allow', 'block')),
    sender           text NOT NULL CHECK (sender = lower(sender)),  -- user@host, host, .host (and below), or a network
    created_at       timestamptz NOT NULL,
    CONSTRAINT sender_rules_once UNIQUE NULLS NOT DISTINCT (domain_id, inbox_id, sender)
);
