-- Delete the rows that an organization without images still has.
WITH deleted_entry AS (
    DELETE FROM audit_log
    WHERE organization_id = %(organization_id)s
),
deleted_inventory AS (
    DELETE FROM inventories
    WHERE organization_id = %(organization_id)s
),
deleted_change AS (
    DELETE FROM image_changes
    WHERE organization_id = %(organization_id)s
),
deleted_counter AS (
    DELETE FROM image_counts
    WHERE organization_id = %(organization_id)s
)
DELETE FROM registries
WHERE organization_id = %(organization_id)s
