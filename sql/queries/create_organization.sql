-- Create an organization and its empty inventory. Return no row if the name is taken.
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
