-- Revoke an API key. A key that is revoked already keeps its first revocation time.
UPDATE api_keys
SET revoked_at = coalesce(revoked_at, now())
WHERE id = %(id)s
RETURNING id
