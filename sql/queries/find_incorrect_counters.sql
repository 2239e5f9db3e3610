-- Return the counters that differ from the images: registry, score, stored and counted number. The
-- row without a registry is the inventory's total.
SELECT registry_id, risk_score, sum(stored)::bigint AS stored, sum(counted)::bigint AS counted
FROM (
    SELECT registry_id, risk_score, n AS stored, 0 AS counted
    FROM image_counts
    WHERE organization_id = %(organization_id)s
    UNION ALL
    SELECT NULL AS registry_id, NULL AS risk_score, image_count AS stored, 0 AS counted
    FROM inventories
    WHERE organization_id = %(organization_id)s
    UNION ALL
    SELECT counter.registry_id, counter.risk_score, 0 AS stored, 1 AS counted
    FROM images
    CROSS JOIN LATERAL (
        VALUES (images.registry_id, images.risk_score), (NULL, NULL)
    ) AS counter (registry_id, risk_score)
    WHERE images.organization_id = %(organization_id)s
) AS counters
GROUP BY registry_id, risk_score
HAVING sum(stored) <> sum(counted)
ORDER BY registry_id, risk_score
