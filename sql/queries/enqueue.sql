-- name: insert
-- Work for the queue, written with the message it carries; returns what its domain must not send, which is settled from
-- the start. $17 are the recipients as the suppression list has them, in lower case. LIMIT makes the list be asked for
-- one address at a time by its index, however the planner judges the size of a batch.
-- What is due at once is due by the database's clock, which the queue goes by: a machine whose clock is an hour ahead
-- does not put its mail off by an hour.
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
)
SELECT id FROM written WHERE state = 'suppressed';

-- name: wake
-- A hint to every process that there is work; polling is the truth.
SELECT pg_notify('deliveries', '');
