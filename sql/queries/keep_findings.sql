-- Make a scan current, unless it is unfinished or superseded, or is current with a set of findings.
-- Return its set of findings, and whether the set is new: its findings must then be copied.
WITH scan AS (
    SELECT this.organization_id, this.id, this.image_id, coalesce(this.tag, '') AS tag_key
    FROM (
        -- As in the view current_scans: only the primary key supports this.
        SELECT scans.*, scans AS whole_row
        FROM scans
        WHERE scans.organization_id = %(organization_id)s AND scans.id BETWEEN %(scan_id)s AND %(scan_id)s
        ORDER BY scans.id
        LIMIT 1
    ) AS this
    WHERE this.is_finished
        AND NOT EXISTS (
            SELECT
            FROM scan_findings AS kept
            WHERE kept.organization_id = %(organization_id)s
                AND kept.image_id = this.image_id
                AND kept.tag_key = coalesce(this.tag, '')
                AND kept.scan_id = this.id
                AND kept.set_id IS NOT NULL
        )
        AND NOT EXISTS (
            SELECT
            FROM current_scans AS newer
            WHERE newer.organization_id = %(organization_id)s
                AND newer.image_id = this.image_id
                AND newer.tag_key = coalesce(this.tag, '')
                AND supersedes(newer.whole_row, this.whole_row)
        )
),
new_set AS (
    INSERT INTO finding_sets (organization_id, image_id, sha256)
    SELECT organization_id, image_id, %(sha256)s
    FROM scan
    ON CONFLICT (organization_id, image_id, sha256) DO NOTHING
    RETURNING id
),
used_set AS (
    SELECT id, true AS is_new
    FROM new_set
    UNION ALL
    SELECT finding_sets.id, false AS is_new
    FROM finding_sets
    JOIN scan ON scan.image_id = finding_sets.image_id
    WHERE finding_sets.organization_id = %(organization_id)s
        AND finding_sets.sha256 = %(sha256)s
),
kept AS (
    INSERT INTO scan_findings (organization_id, scan_id, image_id, tag_key, set_id)
    SELECT scan.organization_id, scan.id, scan.image_id, scan.tag_key, used_set.id
    FROM scan
    CROSS JOIN used_set
    ON CONFLICT (organization_id, image_id, tag_key, scan_id) DO UPDATE
    SET set_id = excluded.set_id
)
SELECT id, is_new
FROM used_set
