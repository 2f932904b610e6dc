-- What was found by reading a whole table, in tables that grow with tenants and strangers.

-- Upkeep: creation keys nobody used in their hour, registrations nobody verified in time.
CREATE INDEX access_keys_creation ON access_keys (expires_at) WHERE kind = 'creation';
CREATE INDEX domains_pending ON domains (pending_until) WHERE state = 'pending';

-- Every idle worker asks which parking ends next; what an operator paused is shown beside it.
CREATE INDEX destinations_parked ON destinations (parked_until) WHERE parked_until IS NOT NULL;
CREATE INDEX destinations_paused ON destinations (name) WHERE paused_at IS NOT NULL;

-- Rows that others refer to: before one goes, PostgreSQL looks for those that do. inboxes_of_domain has live ones only.
CREATE INDEX domains_of_organisation ON domains (organisation_id);
CREATE INDEX inboxes_of_organisation ON inboxes (organisation_id);
CREATE INDEX inboxes_of_any_domain ON inboxes (domain_id);
CREATE INDEX access_keys_of_organisation ON access_keys (organisation_id);
CREATE INDEX forwarding_rules_of_organisation ON forwarding_rules (organisation_id);
CREATE INDEX sender_rules_of_organisation ON sender_rules (organisation_id);
CREATE INDEX sender_rules_of_inbox ON sender_rules (inbox_id) WHERE inbox_id IS NOT NULL;
