-- Sets the counters to what the images say; the caller holds the inventory.
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
day AS (
    INSERT INTO image_days (organization_id, day, n)
    SELECT %(organization_id)s, day, sum(n)::bigint
    FROM (
        SELECT (created_at AT TIME ZONE 'UTC')::date AS day, 1 AS n
        FROM images
        WHERE organization_id = %(organization_id)s
        UNION ALL
        SELECT day, 0 AS n
        FROM image_days
        WHERE organization_id = %(organization_id)s
    ) AS each
    GROUP BY day
    ON CONFLICT (organization_id, day) DO UPDATE
    SET n = excluded.n
)
INSERT INTO image_counts (organization_id, registry_id, risk_score, n)
SELECT %(organization_id)s, registry_id, risk_score, n
FROM counted
ON CONFLICT (organization_id, risk_score, registry_id) DO UPDATE
SET n = excluded.n
