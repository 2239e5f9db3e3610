-- An image of a scope, with its registry and the scan that its score and its counts are of.
SELECT
    image.id,
    image.name,
    image.registry_id,
    image.tag_count,
    image.latest_tag,
    image.latest_digest,
    image.risk_score,
    image.grade,
    image.critical,
    image.high,
    image.medium,
    image.low,
    to_char(image.last_scanned_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS last_scanned_at,
    to_char(image.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS created_at,
    registry.name AS registry_name,
    registry.provider,
    scan.id AS scan_id,
    scan.status,
    scan.scanners
FROM images AS image
JOIN registries AS registry
    ON registry.organization_id = %(organization_id)s AND registry.id = image.registry_id
LEFT JOIN scans AS scan
    ON scan.organization_id = %(organization_id)s AND scan.id = image.scan_id
WHERE image.organization_id = %(organization_id)s
    AND image.id = %(image_id)s
    AND (%(registry_id)s::text IS NULL OR image.registry_id = %(registry_id)s)
