-- Delete an organization whose other rows are deleted. Fails if one remains.
DELETE FROM organizations
WHERE id = %(organization_id)s
