-- name: exchange
-- Adds what one process has counted, and answers what all have. A window that is over begins anew with this count.
-- $1 keys in order (two processes wait for each other, and never in a ring)  $2 counts  $3 seconds until the window ends
INSERT INTO rate_counts AS c (key, count, ends_at)
SELECT g.key, g.count, now() + make_interval(secs => g.seconds)
FROM unnest($1::text[], $2::bigint[], $3::float8[]) AS g (key, count, seconds)
ON CONFLICT (key) DO UPDATE
SET count = CASE WHEN c.ends_at <= now() THEN excluded.count ELSE c.count + excluded.count END,
    ends_at = CASE WHEN c.ends_at <= now() THEN excluded.ends_at ELSE c.ends_at END
RETURNING key, count, extract(epoch FROM ends_at - now())::float8 AS seconds;

-- name: forget
-- Drops the counts of windows that are over.
DELETE FROM rate_counts WHERE ends_at <= now();
