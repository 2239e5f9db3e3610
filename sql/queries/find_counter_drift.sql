-- Where the counters and the images disagree: registry and score, or day, what is kept, what is
-- counted. The row without any of them is the inventory's count of all images.
SELECT registry_id, risk_score, day, sum(kept)::bigint AS kept, sum(counted)::bigint AS counted
FROM (
    SELECT registry_id, risk_score, NULL::date AS day, n AS kept, 0 AS counted
    FROM image_counts
    WHERE organization_id = %(organization_id)s
    UNION ALL
    SELECT NULL AS registry_id, NULL AS risk_score, day, n AS kept, 0 AS counted
    FROM image_days
    WHERE organization_id = %(organization_id)s
    UNION ALL
    SELECT NULL AS registry_id, NULL AS risk_score, NULL AS day, image_count AS kept, 0 AS counted
    FROM inventories
    WHERE organization_id = %(organization_id)s
    UNION ALL
    SELECT counter.registry_id, counter.risk_score, counter.day, 0 AS kept, 1 AS counted
    FROM images
    CROSS JOIN LATERAL (
        VALUES
            (images.registry_id, images.risk_score, NULL::date),
            (NULL, NULL, (images.created_at AT TIME ZONE 'UTC')::date),
            (NULL, NULL, NULL)
    ) AS counter (registry_id, risk_score, day)
    WHERE images.organization_id = %(organization_id)s
) AS counters
GROUP BY registry_id, risk_score, day
HAVING sum(kept) <> sum(counted)
ORDER BY registry_id, risk_score, day
