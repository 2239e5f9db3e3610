-- Find an image of an organization by id or name. An id contains no slash, and a name does.
SELECT id
FROM images
WHERE organization_id = %(organization_id)s
    AND (id = %(id_or_name)s OR name = %(id_or_name)s)
