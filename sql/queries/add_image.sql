-- Insert an image unless the organization has one with this name; return a row only if inserted.
INSERT INTO images (organization_id, registry_id, name)
VALUES (%(organization_id)s, %(registry_id)s, %(name)s)
ON CONFLICT (organization_id, name) DO NOTHING
RETURNING id
