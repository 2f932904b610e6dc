-- A delivery that waits or is leased moves often, and each move is written into every index it is in. Nobody walks a
-- domain's deliveries by id but retention, which wants those that are done: the others need not be in there. A process of
-- the version before finds them as well, and only looks longer for whether a removed domain still has mail on its way.
CREATE INDEX deliveries_settled_of_domain ON deliveries (domain_id, id) WHERE settled_at IS NOT NULL;
DROP INDEX deliveries_of_domain;
