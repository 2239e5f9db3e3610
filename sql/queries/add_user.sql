-- Makes an active user, unless the address is taken (no row then).
INSERT INTO users (organization_id, email, role, status)
VALUES (%(organization_id)s, %(email)s, %(role)s, 'active')
ON CONFLICT (email) DO NOTHING
RETURNING id
