-- Delete a tag's observation of a digest if neither a sync nor any remaining scan made it.
DELETE FROM tags
WHERE organization_id = %(organization_id)s
    AND image_id = %(image_id)s
    AND name = %(tag)s
    AND digest IS NOT DISTINCT FROM %(digest)s
    AND is_confirmed = %(is_confirmed)s
    AND NOT is_synced
    AND NOT EXISTS (
        SELECT
        FROM scans
        WHERE scans.organization_id = %(organization_id)s
            AND scans.image_id = %(image_id)s
            AND scans.tag = tags.name
            AND scans.digest IS NOT DISTINCT FROM tags.digest
            AND scans.is_finished = tags.is_confirmed
    )
