-- Forget some deletions of images that are older than 30 days, the oldest first, and store the
-- newest of their versions: older cursors may miss a deletion. The caller holds the lock of the
-- inventory row. Return the number of forgotten deletions.
WITH oldest AS (
    SELECT organization_id, image_id, deleted_at
    FROM image_changes
    WHERE organization_id = %(organization_id)s AND deleted_at IS NOT NULL
    ORDER BY version
    LIMIT %(limit)s
),
forgotten AS (
    DELETE FROM image_changes
    USING oldest
    WHERE image_changes.organization_id = %(organization_id)s
        AND image_changes.image_id = oldest.image_id
        AND oldest.deleted_at < now() - interval '30 days'
    RETURNING image_changes.registry_id, image_changes.version
),
registry AS (
    UPDATE registries
    SET forgotten_version = greatest(registries.forgotten_version, newest.version)
    FROM (
        SELECT registry_id, max(version) AS version
        FROM forgotten
        GROUP BY registry_id
    ) AS newest
    WHERE registries.organization_id = %(organization_id)s AND registries.id = newest.registry_id
),
inventory AS (
    UPDATE inventories
    SET forgotten_version = greatest(inventories.forgotten_version, newest.version)
    FROM (SELECT max(version) AS version FROM forgotten) AS newest
    WHERE inventories.organization_id = %(organization_id)s AND newest.version IS NOT NULL
)
SELECT count(*)
FROM forgotten
