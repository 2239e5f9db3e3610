-- Delete the API keys that are limited to a registry.
DELETE FROM api_keys
WHERE organization_id = %(organization_id)s AND registry_id = %(registry_id)s
