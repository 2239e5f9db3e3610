-- Lock an organization's inventory row. Transactions that change its images wait for this lock
-- before they commit.
SELECT version
FROM inventories
WHERE organization_id = %(organization_id)s
FOR UPDATE
