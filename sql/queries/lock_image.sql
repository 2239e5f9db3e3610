-- The organization's image with a name, held until the transaction ends: two scans of one image are
-- recorded one after the other, so that the later one's summary sees both.
SELECT id
FROM images
WHERE organization_id = %(organization_id)s AND name = %(name)s
FOR NO KEY UPDATE
