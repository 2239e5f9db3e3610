-- Notes when a registry was last walked through to the end.
UPDATE registries
SET last_synced_at = greatest(last_synced_at, %(synced_at)s)
WHERE organization_id = %(organization_id)s AND id = %(registry_id)s
