-- Delete a registry. Fails if an image of the registry exists.
DELETE FROM registries
WHERE organization_id = %(organization_id)s AND id = %(registry_id)s
