-- Delete sets of an image's findings that no current scan has any more; return their ids.
DELETE FROM finding_sets
WHERE organization_id = %(organization_id)s
    AND image_id = %(image_id)s
    AND id = ANY (%(set_ids)s::bigint[])
    AND NOT EXISTS (
        SELECT
        FROM scan_findings AS kept
        WHERE kept.organization_id = %(organization_id)s
            AND kept.image_id = %(image_id)s
            AND kept.set_id = finding_sets.id
    )
RETURNING id
