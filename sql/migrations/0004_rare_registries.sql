-- How many images a registry has is not known when a page's statement is planned, and on average
-- they have many: too many, the planner would think, to be found by images_registry_idx, though that
-- is only tried where the counters know of few. This tells it that a registry is rare, from the next
-- ANALYZE on. Where the counters know of many, nothing enters an index by its registry.
ALTER TABLE images ALTER COLUMN registry_id SET (n_distinct = -0.001);
