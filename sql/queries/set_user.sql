-- Change a user's role, status or both; null keeps the current value.
UPDATE users
SET role = coalesce(%(role)s, role),
    status = coalesce(%(status)s, status)
WHERE email = %(email)s
RETURNING id, role, status
