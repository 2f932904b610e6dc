-- name: append
-- Events of one transaction, in one statement. As everywhere, event_id makes the ids of late ones anew.
INSERT INTO events (id, organisation_id, domain_id, inbox_id, email_id, delivery_id, type, recipient, detail, at)
SELECT event_id(id), organisation_id, domain_id, inbox_id, email_id, delivery_id, type, recipient, detail, at
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::text[], $8::text[], $9::jsonb[],
            $10::timestamptz[])
    AS new (id, organisation_id, domain_id, inbox_id, email_id, delivery_id, type, recipient, detail, at);

-- name: settled
-- An id below which no event can appear any more. Whoever may still write one is in flight since xact_start, or begins
-- later, and event_id lets no id be more than ten seconds older than that; the rest is for a clock that is set a little.
-- Other processes' transactions are seen where they have our role, as all on one database.url do.
SELECT id_made_at('00000000-0000-7000-8000-000000000000',
                  least(clock_timestamp(), min(xact_start)) - interval '30 seconds')
FROM pg_stat_activity
WHERE datname = current_database() AND backend_xid IS NOT NULL;

-- name: of_email
-- Events of an email, oldest first, from after the event $2 (null: from the beginning). The inner LIMIT is
-- what a page can hold, written out so that the planner knows how little is wanted.
SELECT id, organisation_id, domain_id, type, at, inbox_id, email_id, delivery_id, recipient, detail
FROM (
    SELECT * FROM events
    WHERE email_id = $1 AND id > coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')
    ORDER BY id
    LIMIT 501
) page
ORDER BY id
LIMIT $3;

-- name: of_inbox
-- Events of an inbox, oldest first, from after the event $2 (null: from the beginning).
SELECT id, organisation_id, domain_id, type, at, inbox_id, email_id, delivery_id, recipient, detail
FROM (
    SELECT * FROM events
    WHERE inbox_id = $1 AND id > coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')
    ORDER BY id
    LIMIT 501
) page
ORDER BY id
LIMIT $3;

-- name: of_domain
-- Events of a domain, oldest first, from after the event $2 (null: from the beginning).
SELECT id, organisation_id, domain_id, type, at, inbox_id, email_id, delivery_id, recipient, detail
FROM (
    SELECT * FROM events
    WHERE domain_id = $1 AND id > coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')
    ORDER BY id
    LIMIT 501
) page
ORDER BY id
LIMIT $3;
