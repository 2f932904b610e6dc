-- Replies: who gave a delivery's last one, so that a notice does not put words of ours into the mouth of a host.
-- 'host': last_host; 'house': this installation, to mail within it; null: nobody, the words are our own.
ALTER TABLE deliveries ADD COLUMN last_reply_by text;
-- Not validated: no row has a value yet, and reading them all would keep mail waiting.
ALTER TABLE deliveries ADD CONSTRAINT deliveries_reply_by CHECK (last_reply_by IN ('host', 'house')) NOT VALID;
