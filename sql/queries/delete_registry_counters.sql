-- Delete the counters of a registry that has no image left.
DELETE FROM image_counts
WHERE organization_id = %(organization_id)s AND registry_id = %(registry_id)s
