-- Find the version of an organization's inventory.
SELECT version
FROM inventories
WHERE organization_id = %(organization_id)s
