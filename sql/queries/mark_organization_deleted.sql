-- Mark an organization as being deleted; commands then no longer find it.
UPDATE organizations
SET deleted_at = coalesce(deleted_at, now())
WHERE id = %(organization_id)s
