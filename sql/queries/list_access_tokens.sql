-- List a user's personal access tokens, newest first. Return one row of nulls for a user without
-- tokens, and no row for an unknown user.
SELECT
    token.id,
    token.name,
    token.prefix,
    token.created_at,
    token.expires_at,
    token.revoked_at,
    token.last_used_at
FROM users
LEFT JOIN personal_access_tokens AS token ON token.user_id = users.id
WHERE users.email = %(email)s
ORDER BY token.created_at DESC, token.id DESC
