-- Delete images with their tags, scans and current scans; return ids, names, registries and scores.
DELETE FROM images
WHERE organization_id = %(organization_id)s AND id = ANY (%(image_ids)s)
RETURNING id, name, registry_id, risk_score
