-- Remove the scans that a scan supersedes from the current scans; return their sets of findings.
WITH superseded AS MATERIALIZED (
    SELECT older.id, older.tag_key
    FROM (
        -- As in the view current_scans: only the primary key supports this.
        SELECT scans.*, scans AS whole_row
        FROM scans
        WHERE scans.organization_id = %(organization_id)s AND scans.id BETWEEN %(scan_id)s AND %(scan_id)s
        ORDER BY scans.id
        LIMIT 1
    ) AS newer
    JOIN current_scans AS older
        ON older.organization_id = %(organization_id)s
        AND older.image_id = newer.image_id
        AND older.tag_key = coalesce(newer.tag, '')
    WHERE supersedes(newer.whole_row, older.whole_row)
)
DELETE FROM scan_findings AS kept
USING superseded
WHERE kept.organization_id = %(organization_id)s
    AND kept.image_id = %(image_id)s
    AND kept.tag_key = superseded.tag_key
    AND kept.scan_id = superseded.id
RETURNING kept.set_id
