-- New deliveries as rows, like those of 0016: they are written by the statement that files the mail they carry.

CREATE TYPE new_delivery AS (
    id uuid, organisation_id uuid, domain_id uuid, inbox_id uuid, email_id uuid, rule_id uuid, message_id uuid,
    prefix bytea, kind text, envelope_from text, recipient text, destination text, state text,
    next_attempt_at timestamptz, options jsonb, created_at timestamptz,
    -- the recipient as the suppression list has it.
    listed_as text
);
