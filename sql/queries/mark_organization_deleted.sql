-- Mark an organization as being deleted.
UPDATE organizations
SET deleted_at = coalesce(deleted_at, now())
WHERE id = %(organization_id)s
