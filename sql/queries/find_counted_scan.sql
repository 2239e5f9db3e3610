-- Find the scan that the counts of an image of a scope come from.
SELECT id, scan_id
FROM images
WHERE organization_id = %(organization_id)s
    AND id = %(image_id)s
    AND (%(registry_id)s::text IS NULL OR registry_id = %(registry_id)s)
