-- Makes an organization with its empty inventory, unless the name is taken (no row then).
WITH organization AS (
    INSERT INTO organizations (name)
    VALUES (%(name)s)
    ON CONFLICT (name) DO NOTHING
    RETURNING id
)
INSERT INTO inventories (organization_id)
SELECT id
FROM organization
RETURNING organization_id
