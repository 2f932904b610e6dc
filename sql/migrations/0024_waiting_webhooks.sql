-- What has waited too long for a webhook is found by an index with a predicate that a claim does not state: to a plan made
-- while nothing waited it looked as good as webhook_deliveries_due, and a claim then read all that waited. The predicate
-- means the same (webhook_deliveries_settled).
DROP INDEX webhook_deliveries_waiting;
CREATE INDEX webhook_deliveries_waiting ON webhook_deliveries (waiting_since) WHERE settled_at IS NULL;     -- too old
