-- name: learn
-- Which sites domains were seen at; a claim then knows what is closed to them. What has not changed is not written.
INSERT INTO destinations (name, site, updated_at)
SELECT name, site, $3 FROM unnest($1::text[], $2::text[]) AS seen (name, site)
ON CONFLICT (name) DO UPDATE SET site = excluded.site, updated_at = excluded.updated_at
WHERE destinations.site <> excluded.site;

-- name: park
-- Nobody answers at a site: it is left alone for $3 seconds, twice as long each further time, at most $4. Several
-- processes, or several conversations of one, that find out together count once.
INSERT INTO destinations AS d (name, site, parked_until, failures, problem, updated_at)
VALUES ($1, $1, $2::timestamptz + make_interval(secs => $3), 1, $5, $2)
ON CONFLICT (name) DO UPDATE
SET parked_until = $2 + make_interval(secs => least($3 * power(2, least(d.failures, 20)), $4)),
    failures = d.failures + 1, problem = $5, updated_at = $2
WHERE d.parked_until IS NULL OR d.parked_until <= $2;

-- name: suspend
-- A site asked to be left alone until a moment of its own.
INSERT INTO destinations AS d (name, site, parked_until, problem, updated_at) VALUES ($1, $1, $3, $4, $2)
ON CONFLICT (name) DO UPDATE SET parked_until = greatest(d.parked_until, $3), problem = $4, updated_at = $2;

-- name: answers
-- A site that was parked took mail again.
UPDATE destinations SET parked_until = NULL, failures = 0, problem = '', updated_at = $2
WHERE name = $1 AND (failures > 0 OR parked_until IS NOT NULL);

-- name: pause
-- An operator stops a destination, or a whole site.
INSERT INTO destinations AS d (name, site, paused_at, pause_reason, updated_at) VALUES ($1, $1, $2, $3, $2)
ON CONFLICT (name) DO UPDATE
SET paused_at = coalesce(d.paused_at, $2), pause_reason = $3, updated_at = $2;

-- name: resume
-- An operator lets it go on; its parking is forgotten too.
UPDATE destinations
SET paused_at = NULL, pause_reason = '', parked_until = NULL, failures = 0, problem = '', updated_at = $2
WHERE name = $1 AND (paused_at IS NOT NULL OR parked_until IS NOT NULL)
RETURNING name;

-- name: closed
-- What is parked or paused now.
SELECT name, site, parked_until, failures, problem, paused_at, pause_reason FROM destinations
WHERE paused_at IS NOT NULL OR parked_until > $1
ORDER BY name LIMIT $2;

-- name: forget_old
-- Domains that nobody has written to for long.
DELETE FROM destinations WHERE updated_at < $1 AND paused_at IS NULL AND failures = 0;
