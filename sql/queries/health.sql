-- name: ping
-- One round trip.
SELECT 1;

-- name: moment
-- The database's clock, at this very moment and not at the beginning of a transaction.
SELECT clock_timestamp();
