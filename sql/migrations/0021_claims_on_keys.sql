-- A request with an Idempotency-Key has the key on a claim, which its process renews for as long as it works. So the key
-- of a process that died is free within seconds; and who wakes up after his claim is over finds that it is not his any more.
ALTER TABLE idempotency_keys
    ADD COLUMN claim      uuid,             -- of the request that has the key or had it; null: of a release without claims
    ADD COLUMN held_until timestamptz;
