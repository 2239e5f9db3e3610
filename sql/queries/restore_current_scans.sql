-- Make those scans of a tag current that no remaining scan supersedes. They have no set of findings,
-- because it was deleted when they were superseded.
WITH finished AS (
    SELECT scans.id, scans.finished_at, scans AS whole_row
    FROM scans
    WHERE scans.organization_id = %(organization_id)s
        AND scans.image_id = %(image_id)s
        AND coalesce(scans.tag, '') = %(tag_key)s
        AND scans.is_finished
),
recent AS MATERIALIZED (
    -- Older scans are superseded by the newest one. Only the recent ones are compared in pairs.
    SELECT id, whole_row
    FROM finished
    WHERE finished_at >= (SELECT max(finished_at) - interval '24 hours' FROM finished)
)
INSERT INTO scan_findings (organization_id, image_id, tag_key, scan_id)
SELECT %(organization_id)s, %(image_id)s, %(tag_key)s, older.id
FROM recent AS older
WHERE NOT EXISTS (
    SELECT FROM recent AS newer WHERE supersedes(newer.whole_row, older.whole_row)
)
ON CONFLICT (organization_id, image_id, tag_key, scan_id) DO NOTHING
