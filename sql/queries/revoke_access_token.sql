-- Revoke an access token. A token that is revoked already keeps its first revocation time.
UPDATE personal_access_tokens
SET revoked_at = coalesce(revoked_at, now())
WHERE id = %(id)s
RETURNING id
