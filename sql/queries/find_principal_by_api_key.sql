-- Find the organization of an API key by the SHA-256 of its secret. The role is the key's own.
SELECT
    id,
    organization_id,
    registry_id,
    role,
    coalesce(last_used_at < now() - interval '1 minute', true) AS has_stale_last_use
FROM api_keys
WHERE sha256 = %(sha256)s
    AND revoked_at IS NULL
    AND (expires_at IS NULL OR expires_at > now())
