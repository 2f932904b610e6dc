-- name: server
-- What PostgreSQL is, how much it holds, what it promises, and its clock.
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::integer AS version_number,
       pg_database_size(current_database()) AS bytes, clock_timestamp() AS now, pg_is_in_recovery() AS read_only,
       current_setting('fsync') = 'on' AS fsync, current_setting('full_page_writes') = 'on' AS full_page_writes,
       current_setting('synchronous_commit') <> 'off' AS synchronous_commit,
       to_regclass('schema_migrations') IS NOT NULL AS has_schema,
       -- Where it keeps its files, if that is on this machine and we may know.
       (SELECT setting FROM pg_settings WHERE name = 'data_directory'
        AND (inet_server_addr() IS NULL OR inet_server_addr() = inet_client_addr())) AS directory;

-- name: migrations
-- Which migrations were applied.
SELECT name FROM schema_migrations ORDER BY name;

-- name: sealed_keys
-- The DKIM keys that have to be opened, with their domains, a batch by id. $1 after this id, $2 rows
SELECT k.id, k.private_sealed, k.selector, d.name AS domain
FROM dkim_keys k
JOIN domains d ON d.id = k.domain_id AND d.removed_at IS NULL
WHERE k.state <> 'retired' AND k.id > $1
ORDER BY k.id
LIMIT $2;

-- name: webhook_secrets
-- The secrets that sign webhooks, with their domains, a batch by id. $1 after this id, $2 rows, $3 now
SELECT w.id, w.secret_sealed, CASE WHEN w.old_secret_until > $3 THEN w.old_secret_sealed END AS old_secret_sealed,
       d.name AS domain
FROM webhooks w
JOIN domains d ON d.id = w.domain_id AND d.removed_at IS NULL
WHERE w.removed_at IS NULL AND w.id > $1
ORDER BY w.id
LIMIT $2;

-- name: oldest_due
-- The delivery that has been due for the longest, at a destination that is open. $1 now
SELECT d.next_attempt_at
FROM deliveries d
LEFT JOIN destinations p ON p.name = d.destination
LEFT JOIN destinations s ON s.name = p.site
WHERE d.state IN ('queued', 'deferred') AND d.next_attempt_at <= $1
  AND p.paused_at IS NULL AND s.paused_at IS NULL
  AND (p.parked_until IS NULL OR p.parked_until <= $1) AND (s.parked_until IS NULL OR s.parked_until <= $1)
ORDER BY d.next_attempt_at
LIMIT 1;

-- name: queue
-- How much waits, how much is held, and leases that ended without anybody taking them over. $1 now
SELECT (SELECT count(*) FROM deliveries WHERE state IN ('queued', 'deferred')) AS waiting,
       (SELECT count(*) FROM deliveries WHERE state = 'held') AS held,
       (SELECT count(*) FROM deliveries WHERE state = 'leased') AS leased,
       (SELECT count(*) FROM deliveries WHERE state = 'leased' AND lease_until < $1::timestamptz - interval '2 minutes')
           AS overdue_leases;
