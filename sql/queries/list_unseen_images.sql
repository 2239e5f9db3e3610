-- List those of the images that neither a scan nor a sync has seen since a time. A scan that was
-- recorded since then has seen its image, even if it finished before.
SELECT image.id, image.name
FROM images AS image
WHERE image.organization_id = %(organization_id)s
    AND image.id = ANY (%(image_ids)s)
    AND image.created_at < %(since)s
    AND NOT EXISTS (
        SELECT
        FROM tags
        WHERE tags.organization_id = %(organization_id)s
            AND tags.image_id = image.id
            AND tags.last_observed_at >= %(since)s
        OFFSET 0  -- a lookup for each image, not a join
    )
    AND NOT EXISTS (
        SELECT
        FROM scans
        WHERE scans.organization_id = %(organization_id)s
            AND scans.image_id = image.id
            AND greatest(scans.finished_at, scans.recorded_at) >= %(since)s
        OFFSET 0
    )
ORDER BY image.id
