-- Delete the sets of findings of images; return their ids.
DELETE FROM finding_sets
WHERE organization_id = %(organization_id)s AND image_id = ANY (%(image_ids)s)
RETURNING id
