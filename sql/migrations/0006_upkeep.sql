-- Upkeep: how suppressions that are over are found without looking through those that hold.
CREATE INDEX suppressions_passing ON suppressions (coalesce(expires_at, created_at))
    WHERE expires_at IS NOT NULL OR NOT active;
