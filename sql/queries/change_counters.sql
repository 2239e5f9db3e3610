-- Increase the versions of the inventory and of the changed registries, add to the counters, and
-- store the new version as that of the changed images. Run it last in a transaction that changes
-- what a list can show. Of the rows that it locks, the inventory's is the first, so that concurrent
-- transactions lock in the same order. It stays locked until the commit, so version order is commit
-- order.
WITH inventory AS (
    INSERT INTO inventories (organization_id, image_count, newest_scan_at)
    VALUES (%(organization_id)s, %(images)s, %(newest_scan_at)s)
    ON CONFLICT (organization_id) DO UPDATE
    SET version = greatest(inventories.version + 1, excluded.version),
        image_count = inventories.image_count + excluded.image_count,
        newest_scan_at = greatest(inventories.newest_scan_at, excluded.newest_scan_at)
    RETURNING organization_id, version
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
),
image_change AS (
    INSERT INTO image_changes (
        organization_id, image_id, registry_id, version, deleted_name, deleted_at
    )
    SELECT
        inventory.organization_id, image.id, image.registry_id, inventory.version,
        image.deleted_name,
        CASE WHEN image.deleted_name IS NOT NULL THEN clock_timestamp() END
    FROM inventory
    CROSS JOIN unnest(
        %(image_ids)s::text[], %(image_registry_ids)s::text[], %(deleted_names)s::text[]
    ) AS image (id, registry_id, deleted_name)
    ON CONFLICT (organization_id, image_id) DO UPDATE
    SET version = excluded.version,
        deleted_name = excluded.deleted_name,
        deleted_at = excluded.deleted_at
)
INSERT INTO image_counts (organization_id, registry_id, risk_score, n)
SELECT inventory.organization_id, change.registry_id, change.risk_score, change.n
FROM inventory
CROSS JOIN unnest(
    %(registry_ids)s::text[], %(risk_scores)s::smallint[], %(changes)s::bigint[]
) AS change (registry_id, risk_score, n)
ON CONFLICT (organization_id, risk_score, registry_id) DO UPDATE
SET n = image_counts.n + excluded.n
