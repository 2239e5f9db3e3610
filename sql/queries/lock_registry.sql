-- Lock a registry's row against other changes of its name, and return the name. The caller holds the
-- lock of the inventory row, which change_counters.sql locks before registries too.
SELECT name
FROM registries
WHERE organization_id = %(organization_id)s AND host = %(host)s
FOR NO KEY UPDATE
