-- Find the number of images of an organization.
SELECT image_count
FROM inventories
WHERE organization_id = %(organization_id)s
