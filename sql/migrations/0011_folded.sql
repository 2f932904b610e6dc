-- Addresses are compared the same way whatever the locale of the database: A to Z are folded here, the rest by whoever
-- asks (protocol/address.py). The index on lower(address) stays for processes of the version before.
CREATE UNIQUE INDEX inboxes_live_folded ON inboxes (lower(address COLLATE "C")) WHERE removed_at IS NULL;

-- Not validated: what the old rule let in, the new one lets in as well, unless the locale folds more than A to Z.
ALTER TABLE suppressions DROP CONSTRAINT suppressions_address_check;
ALTER TABLE suppressions ADD CONSTRAINT suppressions_address_folded CHECK (address = lower(address COLLATE "C")) NOT VALID;
