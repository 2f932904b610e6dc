-- name: record_hard
-- An address that takes no mail, or whose owner complained: no more mail to it until somebody removes the row.
INSERT INTO suppressions (id, organisation_id, domain_id, address, reason, detail, active, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, true, $7, NULL)
ON CONFLICT (domain_id, address) DO UPDATE
SET reason = excluded.reason, detail = excluded.detail, active = true, expires_at = NULL,
    created_at = CASE WHEN suppressions.active THEN suppressions.created_at ELSE excluded.created_at END
WHERE suppressions.reason IN ('soft bounces') OR NOT suppressions.active;

-- name: record_soft
-- One more soft bounce of an address; the $7th in a row suppresses it until $8. What is suppressed for good stays so.
INSERT INTO suppressions AS s
    (id, organisation_id, domain_id, address, reason, detail, soft_bounces, active, created_at, expires_at)
VALUES ($1, $2, $3, $4, 'soft bounces', $5, 1, $7 <= 1, $6, CASE WHEN $7 <= 1 THEN $8::timestamptz END)
ON CONFLICT (domain_id, address) DO UPDATE
SET soft_bounces = CASE WHEN s.active AND s.expires_at <= $6 THEN 1 ELSE s.soft_bounces + 1 END,
    active = CASE WHEN s.active AND s.expires_at <= $6 THEN $7 <= 1 ELSE s.soft_bounces + 1 >= $7 END,
    expires_at = CASE WHEN s.active AND s.expires_at <= $6 THEN CASE WHEN $7 <= 1 THEN $8 END
                      WHEN s.soft_bounces + 1 >= $7 THEN $8 END,
    created_at = CASE WHEN s.active AND s.expires_at > $6 THEN s.created_at ELSE $6 END,
    detail = excluded.detail
WHERE s.reason = 'soft bounces';

-- name: list_after
-- A page of a domain's list, newest first.
SELECT id, address, reason, detail, created_at, expires_at FROM suppressions
WHERE domain_id = $1 AND active AND (expires_at IS NULL OR expires_at > $2) AND ($3::uuid IS NULL OR id < $3)
ORDER BY id DESC LIMIT $4;

-- name: get
-- One address of the list.
SELECT id, address, reason, detail, created_at, expires_at FROM suppressions
WHERE domain_id = $1 AND address = $2 AND active AND (expires_at IS NULL OR expires_at > $3);

-- name: delete
-- Forgives an address, and forgets its soft bounces.
DELETE FROM suppressions WHERE domain_id = $1 AND address = $2 RETURNING active;
