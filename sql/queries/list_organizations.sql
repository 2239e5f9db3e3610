-- List all organizations by name.
SELECT id, name
FROM organizations
ORDER BY name
