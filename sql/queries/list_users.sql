-- List the users of an organization; if organization_id is null, of all organizations.
SELECT
    users.id,
    users.email,
    users.role,
    users.status,
    organizations.name AS organization
FROM users
JOIN organizations ON organizations.id = users.organization_id
WHERE %(organization_id)s::text IS NULL OR users.organization_id = %(organization_id)s
ORDER BY users.email
