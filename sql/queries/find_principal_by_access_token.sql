-- Who a personal access token is: its user with the role of this moment, in the organization the
-- token was made in; a user who has moved to another does not take the token along.
SELECT
    token.id,
    token.organization_id,
    NULL AS registry_id,
    users.role,
    coalesce(token.last_used_at < now() - interval '1 minute', true) AS is_use_due
FROM personal_access_tokens AS token
JOIN users ON users.id = token.user_id AND users.organization_id = token.organization_id
WHERE token.sha256 = %(sha256)s
    AND token.revoked_at IS NULL
    AND (token.expires_at IS NULL OR token.expires_at > now())
    AND users.status = 'active'
