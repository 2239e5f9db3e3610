-- Increase the inventory version and add to the counters. Run it in each transaction that changes
-- what a list can show, as the last statement: it locks the inventory's row until the commit. That
-- row is locked before the counters' rows, so concurrent transactions cannot deadlock on them.
WITH inventory AS (
    INSERT INTO inventories (organization_id, image_count)
    VALUES (%(organization_id)s, %(images)s)
    ON CONFLICT (organization_id) DO UPDATE
    SET version = greatest(inventories.version + 1, excluded.version),
        image_count = inventories.image_count + excluded.image_count
    RETURNING organization_id
)
INSERT INTO image_counts (organization_id, registry_id, risk_score, n)
SELECT inventory.organization_id, change.registry_id, change.risk_score, change.n
FROM inventory
CROSS JOIN unnest(
    %(registry_ids)s::text[], %(risk_scores)s::smallint[], %(changes)s::bigint[]
) AS change (registry_id, risk_score, n)
ON CONFLICT (organization_id, risk_score, registry_id) DO UPDATE
SET n = image_counts.n + excluded.n
