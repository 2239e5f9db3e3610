-- Changes a user's role or status; null leaves it as it is.
UPDATE users
SET role = coalesce(%(role)s, role),
    status = coalesce(%(status)s, status)
WHERE email = %(email)s
RETURNING id, role, status
