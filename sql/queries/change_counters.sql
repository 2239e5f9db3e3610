-- Increase the versions of the inventory and of the changed registries, and add to the counters. Run
-- it last in a transaction that changes what a list can show. It locks the inventory row until the
-- commit, and before any registry or counter row, so that concurrent transactions lock in the same
-- order.
WITH inventory AS (
    INSERT INTO inventories (organization_id, image_count)
    VALUES (%(organization_id)s, %(images)s)
    ON CONFLICT (organization_id) DO UPDATE
    SET version = greatest(inventories.version + 1, excluded.version),
        image_count = inventories.image_count + excluded.image_count
    RETURNING organization_id
),
registry AS (
    UPDATE registries
    SET version = greatest(
        registries.version + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    )
    FROM inventory
    WHERE registries.organization_id = inventory.organization_id
        AND registries.organization_id = %(organization_id)s
        AND registries.id = ANY (%(changed_registry_ids)s)
)
INSERT INTO image_counts (organization_id, registry_id, risk_score, n)
SELECT inventory.organization_id, change.registry_id, change.risk_score, change.n
FROM inventory
CROSS JOIN unnest(
    %(registry_ids)s::text[], %(risk_scores)s::smallint[], %(changes)s::bigint[]
) AS change (registry_id, risk_score, n)
ON CONFLICT (organization_id, risk_score, registry_id) DO UPDATE
SET n = image_counts.n + excluded.n
