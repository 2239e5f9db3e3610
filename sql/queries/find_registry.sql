-- Find the organization's registry with a host.
SELECT id
FROM registries
WHERE organization_id = %(organization_id)s AND host = %(host)s
