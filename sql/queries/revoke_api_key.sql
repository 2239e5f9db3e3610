-- Revoke an API key. A key that is revoked already keeps its first revocation time. Return whether
-- it was not revoked before.
WITH before AS (
    SELECT id, revoked_at
    FROM api_keys
    WHERE id = %(id)s
    FOR NO KEY UPDATE
)
UPDATE api_keys
SET revoked_at = coalesce(before.revoked_at, now())
FROM before
WHERE api_keys.id = before.id
RETURNING api_keys.organization_id, before.revoked_at IS NULL
