-- Lock a registry's row against other changes of its name, and return the name. Transactions that
-- record scans do not wait for this lock.
SELECT name
FROM registries
WHERE organization_id = %(organization_id)s AND host = %(host)s
FOR NO KEY UPDATE
