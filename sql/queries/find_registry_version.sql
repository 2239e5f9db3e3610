-- Find the version of a registry's part of the inventory.
SELECT version
FROM registries
WHERE organization_id = %(organization_id)s AND id = %(registry_id)s
