-- Moves the inventory's version and its counters. It is the last statement of a transaction that
-- changes images: the inventory's row is held from here to the commit, and entered first, so that
-- writers meet in one order. Images are of the day on which their transaction began.
WITH inventory AS (
    INSERT INTO inventories (organization_id, image_count)
    VALUES (%(organization_id)s, %(images)s)
    ON CONFLICT (organization_id) DO UPDATE
    SET version = greatest(inventories.version + 1, excluded.version),
        image_count = inventories.image_count + excluded.image_count
    RETURNING organization_id
),
day AS (
    INSERT INTO image_days (organization_id, day, n)
    SELECT
        inventory.organization_id,
        (now() AT TIME ZONE 'UTC')::date,
        %(images)s
    FROM inventory
    WHERE %(images)s > 0
    ON CONFLICT (organization_id, day) DO UPDATE
    SET n = image_days.n + excluded.n
)
INSERT INTO image_counts (organization_id, registry_id, risk_score, n)
SELECT inventory.organization_id, change.registry_id, change.risk_score, change.n
FROM inventory
CROSS JOIN unnest(
    %(registry_ids)s::text[], %(risk_scores)s::smallint[], %(changes)s::bigint[]
) AS change (registry_id, risk_score, n)
ON CONFLICT (organization_id, risk_score, registry_id) DO UPDATE
SET n = image_counts.n + excluded.n
