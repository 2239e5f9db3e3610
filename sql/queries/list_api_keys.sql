-- List an organization's API keys, newest first.
SELECT
    api_keys.id,
    api_keys.name,
    api_keys.prefix,
    api_keys.role,
    registries.host AS registry,
    api_keys.created_at,
    api_keys.expires_at,
    api_keys.revoked_at,
    api_keys.last_used_at
FROM api_keys
LEFT JOIN registries
    ON registries.organization_id = %(organization_id)s
    AND registries.id = api_keys.registry_id
WHERE api_keys.organization_id = %(organization_id)s
ORDER BY api_keys.created_at DESC, api_keys.id DESC
