-- A user's personal access tokens, newest first.
SELECT
    token.id,
    token.name,
    token.prefix,
    token.created_at,
    token.expires_at,
    token.revoked_at,
    token.last_used_at
FROM personal_access_tokens AS token
JOIN users ON users.id = token.user_id
WHERE users.email = %(email)s
ORDER BY token.created_at DESC, token.id DESC
