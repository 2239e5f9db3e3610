-- Find the user of a personal access token, with the user's current role. A token belongs to the
-- organization it was created in and is not valid after its user moves to another.
SELECT
    token.id,
    token.organization_id,
    NULL AS registry_id,
    users.role,
    coalesce(token.last_used_at < now() - interval '1 minute', true) AS has_stale_last_use
FROM personal_access_tokens AS token
JOIN users ON users.id = token.user_id AND users.organization_id = token.organization_id
WHERE token.sha256 = %(sha256)s
    AND token.revoked_at IS NULL
    AND (token.expires_at IS NULL OR token.expires_at > now())
    AND users.status = 'active'
