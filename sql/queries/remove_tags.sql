-- Delete tags of an image by name, except tags that were observed after a given time.
DELETE FROM tags
WHERE organization_id = %(organization_id)s
    AND image_id = %(image_id)s
    AND name = ANY (%(names)s::text[])
    AND NOT EXISTS (
        SELECT FROM tags AS later
        WHERE later.organization_id = %(organization_id)s
            AND later.image_id = %(image_id)s
            AND later.name = tags.name
            AND later.last_observed_at > %(observed_at)s
    )
RETURNING name
