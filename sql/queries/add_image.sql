-- Makes the organization's image with a name, unless there is one (no row then).
INSERT INTO images (organization_id, registry_id, name)
VALUES (%(organization_id)s, %(registry_id)s, %(name)s)
ON CONFLICT (organization_id, name) DO NOTHING
RETURNING id
