-- The metrics of all organizations: images by grade, the newest scan, and the last syncs of
-- registries, as Unix times. Reads the counters and no image. For the operator, not for tenants.
SELECT
    'images' AS name,
    organization_id,
    CASE
        WHEN risk_score IS NULL THEN 'none'
        WHEN risk_score < 25 THEN 'A'
        WHEN risk_score < 50 THEN 'B'
        WHEN risk_score < 75 THEN 'C'
        ELSE 'D'
    END AS label,
    sum(n)::float8 AS value
FROM image_counts
GROUP BY organization_id, label
UNION ALL
SELECT 'newest_scan', organization_id, '', extract(epoch FROM newest_scan_at)::float8
FROM inventories
WHERE newest_scan_at IS NOT NULL
UNION ALL
SELECT 'registry_sync', organization_id, host, extract(epoch FROM last_synced_at)::float8
FROM registries
WHERE last_synced_at IS NOT NULL
