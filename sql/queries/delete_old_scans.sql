-- Delete scans, except current ones. The caller holds the locks of their images' rows. Whether a
-- scan is among the newest of its tag is not checked again: reports that arrive only make it older.
DELETE FROM scans
WHERE organization_id = %(organization_id)s
    AND id = ANY (%(ids)s)
    AND NOT EXISTS (
        SELECT
        FROM scan_findings AS kept
        WHERE kept.organization_id = %(organization_id)s
            AND kept.image_id = scans.image_id
            AND kept.tag_key = coalesce(scans.tag, '')
            AND kept.scan_id = scans.id
        OFFSET 0  -- a lookup for each scan, not a join
    )
