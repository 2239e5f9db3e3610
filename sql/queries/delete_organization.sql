-- Delete an organization's row. It fails if another table still has a row of it.
DELETE FROM organizations
WHERE id = %(organization_id)s
