-- List an image's tags and their current digests.
SELECT name, digest
FROM current_tags
WHERE organization_id = %(organization_id)s AND image_id = %(image_id)s
