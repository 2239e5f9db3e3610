-- Find an image of a scope. Return its id, the scan that its counts come from, and the set of that
-- scan's findings.
SELECT image.id, image.scan_id, image.set_id
FROM images AS image
WHERE image.organization_id = %(organization_id)s
    AND image.id = %(image_id)s
    AND (%(registry_id)s::text IS NULL OR image.registry_id = %(registry_id)s)
