-- List some scans that are older than the newest ones of their tag, and superseded or unfinished.
SELECT ranked.id, ranked.image_id
FROM (
    SELECT
        scans.id,
        scans.image_id,
        scans.is_finished,
        coalesce(scans.tag, '') AS tag_key,
        row_number() OVER (
            PARTITION BY scans.image_id, scans.tag
            ORDER BY scans.finished_at DESC, scans.external_id DESC
        ) AS rank
    FROM scans
    WHERE scans.organization_id = %(organization_id)s AND scans.image_id = ANY (%(image_ids)s)
) AS ranked
WHERE ranked.rank > %(keep)s
    AND NOT EXISTS (
        SELECT
        FROM scan_findings AS kept
        WHERE kept.organization_id = %(organization_id)s
            AND kept.image_id = ranked.image_id
            AND kept.tag_key = ranked.tag_key
            AND kept.scan_id = ranked.id
        OFFSET 0  -- a lookup for each scan, not a join
    )
ORDER BY ranked.image_id
LIMIT %(limit)s
