-- Makes an organization, unless the name is taken (no row then).
INSERT INTO organizations (name)
VALUES (%(name)s)
ON CONFLICT (name) DO NOTHING
RETURNING id
