-- The organization that a person means by an id or a name; an id wins.
SELECT id
FROM organizations
WHERE id = %(id_or_name)s OR name = %(id_or_name)s
ORDER BY id = %(id_or_name)s DESC
LIMIT 1
