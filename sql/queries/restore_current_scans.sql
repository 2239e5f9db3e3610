-- Make scans of a tag current that no other scan supersedes any more. Their findings are deleted.
INSERT INTO scan_findings (organization_id, image_id, tag_key, scan_id)
SELECT older.organization_id, older.image_id, %(tag_key)s, older.id
FROM scans AS older
WHERE older.organization_id = %(organization_id)s
    AND older.image_id = %(image_id)s
    AND coalesce(older.tag, '') = %(tag_key)s
    AND older.is_finished
    -- Older scans are superseded by the newest one.
    AND older.finished_at >= (
        SELECT max(newest.finished_at) - interval '24 hours'
        FROM scans AS newest
        WHERE newest.organization_id = %(organization_id)s
            AND newest.image_id = %(image_id)s
            AND coalesce(newest.tag, '') = %(tag_key)s
            AND newest.is_finished
    )
    AND NOT EXISTS (
        SELECT
        FROM scans AS newer
        WHERE newer.organization_id = %(organization_id)s
            AND newer.image_id = %(image_id)s
            AND coalesce(newer.tag, '') = %(tag_key)s
            AND newer.is_finished
            AND supersedes(newer, older)
    )
ON CONFLICT (organization_id, image_id, tag_key, scan_id) DO NOTHING
