-- List an organization's registries by host, with their numbers of images.
SELECT
    registries.id,
    registries.host,
    registries.name,
    registries.provider,
    (
        SELECT count(*)
        FROM images
        WHERE images.organization_id = %(organization_id)s AND images.registry_id = registries.id
    ) AS images,
    registries.last_synced_at
FROM registries
WHERE registries.organization_id = %(organization_id)s
ORDER BY registries.host
