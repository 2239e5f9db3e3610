-- List all organizations by name, also those that are being deleted.
SELECT id, name, deleted_at AS deleting_since
FROM organizations
ORDER BY name
