-- Find the organization's image with a name and lock its row until the transaction ends, so that
-- concurrent scans of one image are recorded one after the other.
SELECT id
FROM images
WHERE organization_id = %(organization_id)s AND name = %(name)s
FOR NO KEY UPDATE
