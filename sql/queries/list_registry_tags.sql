-- List the tags of a registry's images with the digests that they were observed with, and the build
-- times where known.
SELECT images.name, tags.name, tags.digest, max(tags.built_at)
FROM images
JOIN tags ON tags.organization_id = %(organization_id)s AND tags.image_id = images.id
WHERE images.organization_id = %(organization_id)s AND images.registry_id = %(registry_id)s
GROUP BY images.name, tags.name, tags.digest
