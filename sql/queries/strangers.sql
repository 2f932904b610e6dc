-- name: knock
-- A triplet is seen: noted if it is new, begun anew if it was last heard of before $3 and never passed.
INSERT INTO greylist (triplet, first_seen_at, last_seen_at)
VALUES ($1, $2, $2)
ON CONFLICT (triplet) DO UPDATE SET
    first_seen_at = CASE
        WHEN NOT greylist.passed AND greylist.first_seen_at < $3 THEN excluded.first_seen_at
        ELSE greylist.first_seen_at
    END,
    last_seen_at = excluded.last_seen_at
RETURNING first_seen_at, passed;

-- name: pass_triplet
-- A triplet has waited long enough; no row when another session said so first.
UPDATE greylist SET passed = true
WHERE triplet = $1 AND NOT passed
RETURNING triplet;

-- name: count_pass
-- One more pass of a network.
INSERT INTO greylist_networks (network, passes, last_seen_at)
VALUES ($1, 1, $2)
ON CONFLICT (network) DO UPDATE SET passes = greylist_networks.passes + 1, last_seen_at = excluded.last_seen_at;

-- name: passes
-- How often a network's mail came back; noting that it was seen, at most once an hour.
WITH seen AS (
    UPDATE greylist_networks SET last_seen_at = $2
    WHERE network = $1 AND last_seen_at < $2::timestamptz - interval '1 hour'
)
SELECT passes FROM greylist_networks WHERE network = $1;

-- name: sweep_triplets
-- Forgets triplets: those that never passed and began before $1, and all that were last seen before $2.
DELETE FROM greylist WHERE last_seen_at < $2 OR (last_seen_at < $1 AND NOT passed);

-- name: sweep_networks
-- Forgets networks last seen before $1.
DELETE FROM greylist_networks WHERE last_seen_at < $1;

-- name: sender_rules
-- What a domain and its inboxes say about senders.
SELECT id, organisation_id, domain_id, inbox_id, verdict, sender, created_at
FROM sender_rules
WHERE domain_id = $1
ORDER BY id
LIMIT $2;

-- name: add_sender_rule
-- Says how a sender is to be heard; the last word counts.
INSERT INTO sender_rules (id, organisation_id, domain_id, inbox_id, verdict, sender, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT ON CONSTRAINT sender_rules_once DO UPDATE SET verdict = excluded.verdict
RETURNING id, organisation_id, domain_id, inbox_id, verdict, sender, created_at;

-- name: remove_sender_rule
-- Takes such a word back; no row when it is not the domain's.
DELETE FROM sender_rules WHERE id = $1 AND domain_id = $2
RETURNING id;
