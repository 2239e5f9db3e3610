-- Lock a registry's row against new images and all other changes.
SELECT id
FROM registries
WHERE organization_id = %(organization_id)s AND id = %(registry_id)s
FOR UPDATE
