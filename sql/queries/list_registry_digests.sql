-- List the digests that tags of a registry's images were observed with, and their build times where
-- known. Every image that has a tag is included.
SELECT images.name, tags.digest, max(tags.built_at)
FROM images
JOIN tags ON tags.organization_id = %(organization_id)s AND tags.image_id = images.id
WHERE images.organization_id = %(organization_id)s AND images.registry_id = %(registry_id)s
GROUP BY images.name, tags.digest
