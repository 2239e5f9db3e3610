-- Makes the organization's registry with a host, unless there is one; locks nothing that exists.
INSERT INTO registries (organization_id, host, name)
VALUES (%(organization_id)s, %(host)s, %(host)s)
ON CONFLICT (organization_id, host) DO NOTHING
