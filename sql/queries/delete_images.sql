-- Delete images with their tags, scans and findings; return their registries and scores.
WITH deleted_set AS (
    DELETE FROM finding_sets
    WHERE organization_id = %(organization_id)s AND image_id = ANY (%(image_ids)s)
    RETURNING id
),
deleted_finding AS (
    DELETE FROM findings
    WHERE organization_id = %(organization_id)s AND set_id IN (SELECT id FROM deleted_set)
)
DELETE FROM images
WHERE organization_id = %(organization_id)s AND id = ANY (%(image_ids)s)
RETURNING registry_id, risk_score
