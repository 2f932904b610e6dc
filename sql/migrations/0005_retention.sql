-- Retention: how what is no longer wanted is found without looking for it.

-- Messages that lost their last email while a delivery still carried them. Upkeep looks whether it has arrived.
CREATE TABLE leftover_messages (
    message_id  uuid PRIMARY KEY REFERENCES messages ON DELETE CASCADE
);

-- Forwards and bounces that are done: no email keeps them, so they go with the events that tell of them.
CREATE INDEX deliveries_ended ON deliveries (settled_at) WHERE email_id IS NULL AND settled_at IS NOT NULL;
