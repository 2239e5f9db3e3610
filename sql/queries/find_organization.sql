-- Find an organization by id or name, unless it is being deleted. An id takes precedence over an
-- equal name.
SELECT id
FROM organizations
WHERE (id = %(id_or_name)s OR name = %(id_or_name)s) AND deleted_at IS NULL
ORDER BY id = %(id_or_name)s DESC
LIMIT 1
