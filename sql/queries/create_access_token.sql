-- Store a new personal access token in its user's current organization. Return no row if there is
-- no such user.
INSERT INTO personal_access_tokens (organization_id, user_id, name, prefix, sha256, expires_at)
SELECT users.organization_id, users.id, %(name)s, %(prefix)s, %(sha256)s, %(expires_at)s
FROM users
WHERE users.email = %(email)s
RETURNING organization_id, id
