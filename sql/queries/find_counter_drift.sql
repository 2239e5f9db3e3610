-- Where the counters and the images disagree: registry, score, what is kept, what is counted. The
-- row without a registry is the inventory's count of all images.
SELECT registry_id, risk_score, sum(kept)::bigint AS kept, sum(counted)::bigint AS counted
FROM (
    SELECT registry_id, risk_score, n AS kept, 0 AS counted
    FROM image_counts
    WHERE organization_id = %(organization_id)s
    UNION ALL
    SELECT registry_id, risk_score, 0 AS kept, 1 AS counted
    FROM images
    WHERE organization_id = %(organization_id)s
    UNION ALL
    SELECT NULL AS registry_id, NULL AS risk_score, image_count AS kept, 0 AS counted
    FROM inventories
    WHERE organization_id = %(organization_id)s
    UNION ALL
    SELECT NULL AS registry_id, NULL AS risk_score, 0 AS kept, 1 AS counted
    FROM images
    WHERE organization_id = %(organization_id)s
) AS counters
GROUP BY registry_id, risk_score
HAVING sum(kept) <> sum(counted)
ORDER BY registry_id, risk_score
