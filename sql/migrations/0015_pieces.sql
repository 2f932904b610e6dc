-- Pieces: the bytes of a large message, written one after the other.

-- A commit waits until all that was written ahead of it is on the disk. 24 MiB in one statement made everybody's next
-- commit wait for 24 MiB; in pieces there is never more than one of them in the way. All pieces but the last have 128 KiB,
-- which piece_of knows. A message that is in pieces has no raw; they are written in its transaction and go with it.
CREATE TABLE message_pieces (
    message_id  uuid NOT NULL REFERENCES messages ON DELETE CASCADE,
    number      integer NOT NULL CHECK (number >= 0),
    octets      bytea NOT NULL CHECK (octet_length(octets) BETWEEN 1 AND 131072),
    PRIMARY KEY (message_id, number)
);
ALTER TABLE message_pieces ALTER COLUMN octets SET STORAGE EXTERNAL;
ALTER TABLE messages ALTER COLUMN raw DROP NOT NULL;

-- The bytes of a message that is in pieces; null for any other.
CREATE FUNCTION pieces_of(message uuid) RETURNS bytea LANGUAGE sql STABLE
RETURN (SELECT string_agg(p.octets, ''::bytea ORDER BY p.number) FROM message_pieces p WHERE p.message_id = message);

-- Some of them, from an octet on that is counted from 0; no others are read.
CREATE FUNCTION piece_of(message uuid, start integer, octets integer) RETURNS bytea LANGUAGE sql STABLE
RETURN (
    SELECT substring(string_agg(p.octets, ''::bytea ORDER BY p.number) FROM start % 131072 + 1 FOR piece_of.octets)
    FROM message_pieces p
    WHERE p.message_id = message AND p.number BETWEEN start / 131072 AND (start + piece_of.octets - 1) / 131072
);
