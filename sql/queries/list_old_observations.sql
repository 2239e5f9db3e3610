-- List some observations of images' tags that are not current and were last made before a time.
SELECT old.id, old.image_id
FROM tags AS old
WHERE old.organization_id = %(organization_id)s
    AND old.image_id = ANY (%(image_ids)s)
    AND old.last_observed_at < %(since)s
    AND EXISTS (
        SELECT
        FROM tags AS newer
        WHERE newer.organization_id = %(organization_id)s
            AND newer.image_id = old.image_id
            AND newer.name = old.name
            AND (newer.is_confirmed, newer.last_observed_at)
                > (old.is_confirmed, old.last_observed_at)
        OFFSET 0  -- a lookup for each observation, not a join
    )
ORDER BY old.image_id
LIMIT %(limit)s
