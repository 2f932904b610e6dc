-- name: mta_sts
-- A domain's policy as it was last fetched.
SELECT policy_id, policy, expires_at FROM mta_sts_policies WHERE domain = $1 AND expires_at > $2;

-- name: keep_mta_sts
-- A policy that was fetched.
INSERT INTO mta_sts_policies (domain, policy_id, policy, fetched_at, expires_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (domain) DO UPDATE
SET policy_id = excluded.policy_id, policy = excluded.policy, fetched_at = excluded.fetched_at,
    expires_at = excluded.expires_at;

-- name: count_tls
-- Adds to the counts of TLS sessions.
INSERT INTO tls_results AS r (day, policy_domain, policy_type, mx_host, result, sessions)
SELECT * FROM unnest($1::date[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
ON CONFLICT (day, policy_domain, policy_type, mx_host, result) DO UPDATE SET sessions = r.sessions + excluded.sessions;

-- name: tls_of_day
-- What a TLS report of one day and domain tells (RFC 8460 section 4).
SELECT policy_type, mx_host, result, sessions FROM tls_results
WHERE day = $1 AND policy_domain = $2
ORDER BY policy_type, mx_host, result;

-- name: forget_policies
-- Policies that have expired.
DELETE FROM mta_sts_policies WHERE expires_at < $1;

-- name: forget_tls
-- Counts of days that have long been reported.
DELETE FROM tls_results WHERE day < $1;
