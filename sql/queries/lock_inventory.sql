-- Lock an organization's inventory row, so that no writer of the organization can commit.
SELECT version
FROM inventories
WHERE organization_id = %(organization_id)s
FOR UPDATE
