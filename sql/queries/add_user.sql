-- Create an active user. Return no row if the e-mail address is taken.
INSERT INTO users (organization_id, email, role, status)
VALUES (%(organization_id)s, %(email)s, %(role)s, 'active')
ON CONFLICT (email) DO NOTHING
RETURNING id
