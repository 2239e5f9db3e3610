-- Find the image of a scan of a scope.
SELECT image.id
FROM scans
JOIN images AS image
    ON image.organization_id = %(organization_id)s AND image.id = scans.image_id
WHERE scans.organization_id = %(organization_id)s
    AND scans.id = %(scan_id)s
    AND (%(registry_id)s::text IS NULL OR image.registry_id = %(registry_id)s)
