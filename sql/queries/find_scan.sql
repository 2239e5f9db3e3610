-- Find the organization's scan with an external id: its image and content hash.
SELECT id, image_id, content_sha256
FROM scans
WHERE organization_id = %(organization_id)s AND external_id = %(external_id)s
