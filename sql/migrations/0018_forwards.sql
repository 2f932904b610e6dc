-- A bounce names a forward's rewritten sender and a recipient whose case a host may have changed; the newest is meant.
-- deliveries_forwards, made for names as written, serves processes of the version before.
CREATE INDEX deliveries_forwards_folded ON deliveries (envelope_from, lower(recipient COLLATE "C"), id)
    WHERE kind = 'forward';
