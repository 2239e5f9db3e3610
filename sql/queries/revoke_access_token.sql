-- Revoke an access token. A token that is revoked already keeps its first revocation time. Return
-- whether it was not revoked before.
WITH before AS (
    SELECT id, revoked_at
    FROM personal_access_tokens
    WHERE id = %(id)s
    FOR NO KEY UPDATE
)
UPDATE personal_access_tokens
SET revoked_at = coalesce(before.revoked_at, now())
FROM before
WHERE personal_access_tokens.id = before.id
RETURNING personal_access_tokens.organization_id, before.revoked_at IS NULL
