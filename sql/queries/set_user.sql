-- Change a user's role, status or both; null keeps the current value. Return both values before and
-- after.
WITH before AS (
    SELECT id, role, status
    FROM users
    WHERE email = %(email)s
    FOR NO KEY UPDATE
)
UPDATE users
SET role = coalesce(%(role)s, before.role),
    status = coalesce(%(status)s, before.status)
FROM before
WHERE users.id = before.id
RETURNING
    users.organization_id, users.id, before.role, before.status, users.role, users.status
