-- Notes: what was broken in a message, and what of it was not looked at because a limit was reached, in words.
ALTER TABLE messages ADD COLUMN notes text[] NOT NULL DEFAULT '{}';
