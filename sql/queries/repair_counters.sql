-- Count the images, store the numbers in the counters, and increase all versions. The caller holds
-- the lock of the inventory row.
WITH counted AS (
    SELECT registry_id, risk_score, sum(n)::bigint AS n
    FROM (
        SELECT registry_id, risk_score, 1 AS n
        FROM images
        WHERE organization_id = %(organization_id)s
        UNION ALL
        SELECT registry_id, risk_score, 0 AS n
        FROM image_counts
        WHERE organization_id = %(organization_id)s
    ) AS each
    GROUP BY registry_id, risk_score
),
inventory AS (
    INSERT INTO inventories (organization_id, image_count)
    SELECT %(organization_id)s, coalesce(sum(n), 0)
    FROM counted
    ON CONFLICT (organization_id) DO UPDATE
    SET version = greatest(inventories.version + 1, excluded.version),
        image_count = excluded.image_count
),
registry AS (
    UPDATE registries
    SET version = greatest(
        version + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    )
    WHERE organization_id = %(organization_id)s
)
INSERT INTO image_counts (organization_id, registry_id, risk_score, n)
SELECT %(organization_id)s, registry_id, risk_score, n
FROM counted
ON CONFLICT (organization_id, risk_score, registry_id) DO UPDATE
SET n = excluded.n
