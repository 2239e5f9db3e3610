-- Delete observations of tags, except those that became current or were made again after they were
-- listed. The caller holds the locks of their images' rows.
DELETE FROM tags AS old
WHERE old.organization_id = %(organization_id)s
    AND old.id = ANY (%(ids)s)
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
