-- Recompute the summary columns of images from their tags and scans (contract 6). Return the images
-- that changed, with their scores before and after. The caller holds the images' row locks.
WITH latest_tag AS (
    -- Tags that only unfinished scans observed sort after all others.
    SELECT DISTINCT ON (image_id)
        image_id,
        name,
        digest,
        count(*) OVER (PARTITION BY image_id) AS tag_count
    FROM current_tags
    WHERE organization_id = %(organization_id)s AND image_id = ANY (%(image_ids)s)
    ORDER BY image_id, is_confirmed DESC, digest_created_at DESC, name DESC
),
summary AS (
    SELECT
        image.id,
        image.risk_score AS previous_risk_score,
        coalesce(latest_tag.tag_count, 0) AS tag_count,
        latest_tag.name AS latest_tag,
        CASE
            WHEN latest_tag.name IS NULL THEN newest_scan.digest
            ELSE latest_tag.digest
        END AS latest_digest,
        counted_scan.id AS scan_id,
        counted_scan.risk_score,
        counted_scan.grade,
        coalesce(counted_scan.critical, 0) AS critical,
        coalesce(counted_scan.high, 0) AS high,
        coalesce(counted_scan.medium, 0) AS medium,
        coalesce(counted_scan.low, 0) AS low,
        counted_scan.newest_finished_at AS last_scanned_at
    FROM images AS image
    LEFT JOIN latest_tag ON latest_tag.image_id = image.id
    LEFT JOIN LATERAL (
        SELECT scans.digest
        FROM scans
        WHERE scans.organization_id = %(organization_id)s AND scans.image_id = image.id
        ORDER BY scans.finished_at DESC, scans.external_id DESC
        LIMIT 1
    ) AS newest_scan ON true
    LEFT JOIN LATERAL (
        SELECT coalesce(
            (
                SELECT scan.tag_key
                FROM finished_scans AS scan
                WHERE scan.organization_id = %(organization_id)s
                    AND scan.image_id = image.id
                    AND scan.tag_key = coalesce(latest_tag.name, '')
                LIMIT 1
            ),
            (
                SELECT scan.tag_key
                FROM finished_scans AS scan
                WHERE scan.organization_id = %(organization_id)s AND scan.image_id = image.id
                ORDER BY scan.finished_at DESC, scan.external_id DESC
                LIMIT 1
            )
        ) AS tag_key
        OFFSET 0  -- computes the key once
    ) AS counted_tag ON true
    LEFT JOIN LATERAL (
        SELECT *
        FROM compared_scans(%(organization_id)s, image.id, counted_tag.tag_key)
        WHERE rank = 1
    ) AS counted_scan ON true
    WHERE image.organization_id = %(organization_id)s AND image.id = ANY (%(image_ids)s)
)
UPDATE images
SET tag_count = summary.tag_count,
    latest_tag = summary.latest_tag,
    latest_digest = summary.latest_digest,
    scan_id = summary.scan_id,
    risk_score = summary.risk_score,
    grade = summary.grade,
    critical = summary.critical,
    high = summary.high,
    medium = summary.medium,
    low = summary.low,
    last_scanned_at = summary.last_scanned_at
FROM summary
WHERE images.organization_id = %(organization_id)s
    AND images.id = summary.id
    AND (
        images.tag_count, images.latest_tag, images.latest_digest, images.scan_id,
        images.risk_score, images.grade, images.critical, images.high, images.medium, images.low,
        images.last_scanned_at
    ) IS DISTINCT FROM (
        summary.tag_count, summary.latest_tag, summary.latest_digest, summary.scan_id,
        summary.risk_score, summary.grade, summary.critical, summary.high, summary.medium,
        summary.low, summary.last_scanned_at
    )
RETURNING images.id, images.registry_id, summary.previous_risk_score, images.risk_score
