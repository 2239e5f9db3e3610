-- Delete images; return their ids, names, registries and scores. Foreign keys delete their names,
-- tags, scans and current scans.
DELETE FROM images
WHERE organization_id = %(organization_id)s AND id = ANY (%(image_ids)s)
RETURNING id, name, registry_id, risk_score
