-- Insert a registry unless the organization has one with this host. Locks no existing row.
INSERT INTO registries (organization_id, host, name)
VALUES (%(organization_id)s, %(host)s, %(host)s)
ON CONFLICT (organization_id, host) DO NOTHING
