-- List some images of an organization, or of one of its registries, in the order of their ids.
SELECT id
FROM images
WHERE organization_id = %(organization_id)s
    AND id > %(after)s
    AND (%(registry_id)s::text IS NULL OR registry_id = %(registry_id)s)
ORDER BY id
LIMIT %(limit)s
