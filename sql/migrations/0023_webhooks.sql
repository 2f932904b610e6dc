-- Webhooks: where owners are told of events over HTTP, and what they have still to be told.

-- An endpoint hears the events of its inbox, or of its whole domain. What was removed is told nothing more, and upkeep
-- empties it.
CREATE TABLE webhooks (
    id                 uuid PRIMARY KEY,
    organisation_id    uuid NOT NULL REFERENCES organisations ON DELETE CASCADE,
    domain_id          uuid NOT NULL REFERENCES domains ON DELETE CASCADE,
    inbox_id           uuid REFERENCES inboxes ON DELETE CASCADE,   -- null: the whole domain
    key_id             uuid NOT NULL,               -- the key that chose the address; its revocation disables the endpoint
    url                text NOT NULL CHECK (length(url) BETWEEN 1 AND 2048),
    event_types        text[] NOT NULL,             -- none: all
    secret_sealed      bytea NOT NULL,              -- AES-256-GCM, bound to this row's id
    old_secret_sealed  bytea,                       -- signs beside the new one until old_secret_until
    old_secret_until   timestamptz,
    failures           integer NOT NULL DEFAULT 0,  -- attempts that failed in a row, whatever they were about
    failing_since      timestamptz,                 -- when that row of failures began
    resting_until      timestamptz,                 -- nothing is tried before
    dropped            bigint NOT NULL DEFAULT 0,   -- events given up because too many waited
    disabled_at        timestamptz,
    disabled_reason    text,
    created_at         timestamptz NOT NULL,
    removed_at         timestamptz,
    CONSTRAINT webhooks_old_secret CHECK ((old_secret_sealed IS NULL) = (old_secret_until IS NULL)),
    CONSTRAINT webhooks_disabled CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))
);
-- Who listens to an inbox or a domain: asked by tell_webhooks for every event.
CREATE INDEX webhooks_listening ON webhooks (coalesce(inbox_id, domain_id))
    WHERE disabled_at IS NULL AND removed_at IS NULL;
CREATE INDEX webhooks_of_domain ON webhooks (domain_id, id);
CREATE INDEX webhooks_of_organisation ON webhooks (organisation_id);
CREATE INDEX webhooks_of_inbox ON webhooks (inbox_id) WHERE inbox_id IS NOT NULL;
CREATE INDEX webhooks_of_key ON webhooks (key_id);
CREATE INDEX webhooks_removed ON webhooks (removed_at) WHERE removed_at IS NOT NULL;            -- upkeep empties them

-- One event for one endpoint. A claim puts next_attempt_at off to the end of its lease, so what a dead process held is
-- due again by itself; the fence counts claims, and a late result no longer fits. There is no foreign key to webhooks:
-- mail that arrives while its owner removes an endpoint would be refused over it.
CREATE TABLE webhook_deliveries (
    webhook_id       uuid NOT NULL,
    event_id         uuid NOT NULL,                 -- the webhook-id of every attempt
    organisation_id  uuid NOT NULL,
    domain_id        uuid NOT NULL,
    event_type       text NOT NULL,
    state            text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'failed')),
    attempts         integer NOT NULL DEFAULT 0,
    next_attempt_at  timestamptz NOT NULL,
    waiting_since    timestamptz NOT NULL,
    lease_owner      uuid,
    lease_fence      bigint NOT NULL DEFAULT 0,
    lease_until      timestamptz,
    last_attempt_at  timestamptz,
    last_status      integer,                       -- of HTTP; null: no answer came
    last_error       text,
    settled_at       timestamptz,
    PRIMARY KEY (webhook_id, event_id),
    CONSTRAINT webhook_deliveries_lease CHECK ((lease_owner IS NULL) = (lease_until IS NULL)),
    CONSTRAINT webhook_deliveries_settled CHECK ((state = 'waiting') = (settled_at IS NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, vacuum_index_cleanup = on);
-- A claim walks from endpoint to endpoint and takes what is due of each.
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, next_attempt_at, event_id) WHERE state = 'waiting';
CREATE INDEX webhook_deliveries_leased ON webhook_deliveries (webhook_id) WHERE lease_until IS NOT NULL;
CREATE INDEX webhook_deliveries_waiting ON webhook_deliveries (waiting_since) WHERE state = 'waiting';     -- too old
CREATE INDEX webhook_deliveries_ended ON webhook_deliveries (settled_at) WHERE settled_at IS NOT NULL;     -- upkeep
CREATE INDEX webhook_deliveries_of_domain ON webhook_deliveries (domain_id);                               -- upkeep

-- Whoever writes an event, by whatever statement and of whatever release, writes with it what endpoints have to be told
-- of it: so none is missed. An inbox and a domain have a limited number of endpoints (core/webhooks/endpoints.py), far
-- below the LIMIT, which makes each event ask the index however many endpoints there are in all.
CREATE FUNCTION tell_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_deliveries (webhook_id, event_id, organisation_id, domain_id, event_type, next_attempt_at,
                                    waiting_since)
    SELECT listening.id, e.id, e.organisation_id, e.domain_id, e.type, now(), now()
    FROM written e
    CROSS JOIN LATERAL (
        SELECT w.id FROM webhooks w
        WHERE coalesce(w.inbox_id, w.domain_id) = ANY (ARRAY[e.domain_id, e.inbox_id])
          AND w.disabled_at IS NULL AND w.removed_at IS NULL
          AND (w.event_types = '{}' OR e.type = ANY (w.event_types))
        LIMIT 1000
    ) listening;
    IF FOUND THEN
        PERFORM pg_notify('webhooks', '');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER events_tell_webhooks AFTER INSERT ON events
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION tell_webhooks();
