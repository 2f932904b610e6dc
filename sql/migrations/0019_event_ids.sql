-- Who keeps asking for events walks them by id, and must miss none. So an id must not be far older than the transaction
-- that writes it: not where a process slept or waited for the database since it made it, and not where the clock of its
-- machine is behind. What is in flight then bounds the ids that may still appear.

-- A UUIDv7 as if it had been made at that moment.
CREATE FUNCTION id_made_at(id uuid, moment timestamptz) RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
RETURN (lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0')
        || substr(replace(id::text, '-', ''), 13))::uuid;

-- The id under which an event is written: its own, unless that is older than ten seconds. The transaction has its number
-- from before the look at the clock, so nobody finds it neither in flight nor younger.
CREATE FUNCTION event_id(made uuid) RETURNS uuid LANGUAGE sql VOLATILE PARALLEL UNSAFE
RETURN CASE WHEN pg_current_xact_id() IS NULL THEN NULL
            WHEN made >= id_made_at(made, clock_timestamp() - interval '10 seconds') THEN made
            ELSE id_made_at(made, clock_timestamp()) END;
