-- Lock images of an organization until the transaction ends, in the order of their ids, so that two
-- deletions cannot wait for each other. Recorders of these images wait. Return those that exist.
SELECT id
FROM images
WHERE organization_id = %(organization_id)s
    AND id = ANY (%(image_ids)s)
    AND (%(registry_id)s::text IS NULL OR registry_id = %(registry_id)s)
ORDER BY id
FOR UPDATE
