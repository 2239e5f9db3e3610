-- The organization's scan of an identity: which image it is of, and what tells its content.
SELECT id, image_id, content_sha256
FROM scans
WHERE organization_id = %(organization_id)s AND external_id = %(external_id)s
