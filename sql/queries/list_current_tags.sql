-- An image's tags and their current digests: those of their newest observations (contract,
-- section 6).
SELECT DISTINCT ON (name) name, digest
FROM tags
WHERE organization_id = %(organization_id)s AND image_id = %(image_id)s
ORDER BY name, is_confirmed DESC, last_observed_at DESC, digest DESC NULLS LAST
