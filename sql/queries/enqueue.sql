-- name: enqueue
-- Work for the queue ($1 to $17), written with the message it carries, and what is told of it ($18 to $27). What its
-- domain must not send is settled from the start, and told so. $17 are the recipients as the suppression list has them;
-- LIMIT makes the list be asked for one address at a time by its index, however the planner judges the size of a batch.
-- What is due at once is due by the database's clock, which the queue goes by: a machine whose clock is an hour ahead
-- does not put its mail off by an hour. The queue of every process is woken; that is a hint, polling is the truth.
WITH written AS (
    INSERT INTO deliveries (id, organisation_id, domain_id, inbox_id, email_id, rule_id, message_id, prefix, kind,
                            envelope_from, recipient, destination, state, next_attempt_at, options, created_at,
                            settled_at)
    SELECT id, organisation_id, domain_id, inbox_id, email_id, rule_id, message_id, prefix, kind, envelope_from,
           recipient, destination, coalesce(listed.state, new.state),
           CASE WHEN next_attempt_at <= created_at THEN least(next_attempt_at, now()) ELSE next_attempt_at END,
           options, created_at, CASE WHEN coalesce(listed.state, new.state) = 'suppressed' THEN created_at END
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[], $8::bytea[],
                $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::timestamptz[], $15::jsonb[],
                $16::timestamptz[], $17::text[])
         AS new (id, organisation_id, domain_id, inbox_id, email_id, rule_id, message_id, prefix, kind, envelope_from,
                 recipient, destination, state, next_attempt_at, options, created_at, address)
    LEFT JOIN LATERAL (
        SELECT 'suppressed' AS state FROM suppressions s
        WHERE s.domain_id = new.domain_id AND s.address = new.address
          AND s.active AND (s.expires_at IS NULL OR s.expires_at > new.created_at)
        LIMIT 1
    ) AS listed ON new.kind = 'send'
    RETURNING id, state
), told AS (
    INSERT INTO events (id, organisation_id, domain_id, inbox_id, email_id, delivery_id, type, recipient, detail, at)
    SELECT event_id(new.id), organisation_id, domain_id, inbox_id, email_id, delivery_id,
           CASE WHEN w.state = 'suppressed' THEN 'suppressed' ELSE type END, recipient,
           CASE WHEN w.state = 'suppressed' THEN '{"reason": "the address is on the suppression list"}' ELSE detail END,
           at
    FROM unnest($18::uuid[], $19::uuid[], $20::uuid[], $21::uuid[], $22::uuid[], $23::uuid[], $24::text[], $25::text[],
                $26::jsonb[], $27::timestamptz[])
         AS new (id, organisation_id, domain_id, inbox_id, email_id, delivery_id, type, recipient, detail, at)
    LEFT JOIN written w ON w.id = new.delivery_id
)
SELECT pg_notify('deliveries', '') FROM written WHERE state = 'queued' LIMIT 1;
