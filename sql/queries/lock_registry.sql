-- Lock a registry's row against other changes, and return its name and provider. The caller holds
-- the lock of the inventory row, which change_counters.sql locks before registries too.
SELECT name, provider
FROM registries
WHERE organization_id = %(organization_id)s AND host = %(host)s
FOR NO KEY UPDATE
