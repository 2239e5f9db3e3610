-- Find the organization's scan with an external id: its image, content hash and results.
SELECT
    id, image_id, content_sha256, tag, scanners, status, risk_score, grade,
    critical, high, medium, low
FROM scans
WHERE organization_id = %(organization_id)s AND external_id = %(external_id)s
