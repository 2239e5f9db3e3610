-- The digests that the tags of a registry's images have had, with their build times where told;
-- every image that has any tag is among them.
SELECT images.name, tags.digest, max(tags.built_at)
FROM images
JOIN tags ON tags.organization_id = %(organization_id)s AND tags.image_id = images.id
WHERE images.organization_id = %(organization_id)s AND images.registry_id = %(registry_id)s
GROUP BY images.name, tags.digest
