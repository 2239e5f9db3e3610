-- Record when the last complete sync of a registry began.
UPDATE registries
SET last_synced_at = greatest(last_synced_at, %(synced_at)s)
WHERE organization_id = %(organization_id)s AND id = %(registry_id)s
