-- Find an organization by id or name, and whether it is being deleted. An id takes precedence over
-- an equal name.
SELECT id, name, deleted_at IS NOT NULL AS is_being_deleted
FROM organizations
WHERE id = %(id_or_name)s OR name = %(id_or_name)s
ORDER BY id = %(id_or_name)s DESC
LIMIT 1
