-- What callers of the API have asked for in this window, as far as the processes have told each other. Nobody's promise:
-- it is not in the write-ahead log, and a database that crashed begins anew.
CREATE UNLOGGED TABLE rate_counts (
    key text PRIMARY KEY,
    count bigint NOT NULL,
    ends_at timestamptz NOT NULL
);
