-- Delete observations of tags.
DELETE FROM tags
WHERE organization_id = %(organization_id)s AND id = ANY (%(tag_ids)s)
