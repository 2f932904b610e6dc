-- Results of deliveries as rows, like those of 0016, and what is told of them.

CREATE TYPE delivery_result AS (
    id uuid, fence bigint, state text, tried integer, next_attempt_at timestamptz, reply text, host text, notice text,
    delay_noticed boolean, reply_by text
);

CREATE TYPE result_event AS (id uuid, delivery_id uuid, type text, detail jsonb);
