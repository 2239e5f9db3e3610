-- Find the organization's scan with an external id: its image, content hash, registry and results.
SELECT
    scans.id,
    scans.image_id,
    scans.content_sha256,
    (
        SELECT images.registry_id
        FROM images
        WHERE images.organization_id = %(organization_id)s AND images.id = scans.image_id
    ) AS registry_id,
    scans.tag,
    scans.scanners,
    scans.status,
    scans.risk_score,
    scans.grade,
    scans.critical,
    scans.high,
    scans.medium,
    scans.low
FROM scans
WHERE scans.organization_id = %(organization_id)s AND scans.external_id = %(external_id)s
