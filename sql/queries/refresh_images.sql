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
            WHEN latest_tag.name IS NOT NULL THEN latest_tag.digest
            WHEN newest_scan.id IS NOT NULL THEN newest_scan.digest
            ELSE (
                SELECT unfinished.digest
                FROM scans AS unfinished
                WHERE unfinished.organization_id = %(organization_id)s
                    AND unfinished.image_id = image.id
                ORDER BY unfinished.finished_at DESC, unfinished.external_id DESC
                LIMIT 1
            )
        END AS latest_digest,
        counted_scan.id AS scan_id,
        counted_scan.set_id,
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
        SELECT scan_findings.tag_key
        FROM scan_findings
        WHERE scan_findings.organization_id = %(organization_id)s
            AND scan_findings.image_id = image.id
            AND scan_findings.tag_key = latest_tag.name
        LIMIT 1
    ) AS scanned_tag ON true
    -- The newest finished scan of any tag, if the latest tag has none or there is no tag.
    LEFT JOIN LATERAL (
        SELECT current.id, current.digest, current.tag_key
        FROM current_scans AS current
        WHERE current.organization_id = %(organization_id)s
            AND current.image_id = image.id
            AND (latest_tag.name IS NULL OR scanned_tag.tag_key IS NULL)
        ORDER BY current.finished_at DESC, current.external_id DESC
        LIMIT 1
    ) AS newest_scan ON true
    LEFT JOIN LATERAL (
        SELECT *
        FROM compared_scans(
            %(organization_id)s, image.id, coalesce(scanned_tag.tag_key, newest_scan.tag_key)
        )
        WHERE rank = 1
    ) AS counted_scan ON true
    WHERE image.organization_id = %(organization_id)s AND image.id = ANY (%(image_ids)s)
)
UPDATE images
SET tag_count = summary.tag_count,
    latest_tag = summary.latest_tag,
    latest_digest = summary.latest_digest,
    scan_id = summary.scan_id,
    set_id = summary.set_id,
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
        images.tag_count, images.latest_tag, images.latest_digest, images.scan_id, images.set_id,
        images.risk_score, images.grade, images.critical, images.high, images.medium, images.low,
        images.last_scanned_at
    ) IS DISTINCT FROM (
        summary.tag_count, summary.latest_tag, summary.latest_digest, summary.scan_id,
        summary.set_id, summary.risk_score, summary.grade, summary.critical, summary.high,
        summary.medium, summary.low, summary.last_scanned_at
    )
RETURNING
    images.id,
    images.registry_id,
    summary.previous_risk_score,
    images.risk_score,
    images.last_scanned_at
