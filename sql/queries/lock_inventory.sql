-- Keeps every writer of an organization from committing until the transaction ends.
SELECT version
FROM inventories
WHERE organization_id = %(organization_id)s
FOR UPDATE
