-- Find an image of a scope. Return its id, the scan that its counts come from, and the set of that
-- scan's findings.
SELECT
    image.id,
    image.scan_id,
    (
        SELECT kept.set_id
        FROM scan_findings AS kept
        WHERE kept.organization_id = %(organization_id)s
            AND kept.image_id = image.id
            AND kept.scan_id = image.scan_id
    ) AS set_id
FROM images AS image
WHERE image.organization_id = %(organization_id)s
    AND image.id = %(image_id)s
    AND (%(registry_id)s::text IS NULL OR image.registry_id = %(registry_id)s)
