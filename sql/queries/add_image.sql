-- Insert an image and its name unless the organization has one with this name; return a row only if
-- inserted.
WITH image AS (
    INSERT INTO images (organization_id, registry_id, name)
    VALUES (%(organization_id)s, %(registry_id)s, %(name)s)
    ON CONFLICT (organization_id, name) DO NOTHING
    RETURNING organization_id, id, name, registry_id
),
image_name AS (
    INSERT INTO image_names (organization_id, name, registry_id)
    SELECT organization_id, name, registry_id
    FROM image
)
SELECT id
FROM image
