-- Delete the tags of an image that a registry listing did not contain, except tags that were
-- observed after the listing.
DELETE FROM tags
WHERE organization_id = %(organization_id)s
    AND image_id = %(image_id)s
    AND name <> ALL (%(names)s::text[])
    AND NOT EXISTS (
        SELECT FROM tags AS later
        WHERE later.organization_id = %(organization_id)s
            AND later.image_id = %(image_id)s
            AND later.name = tags.name
            AND later.last_observed_at > %(observed_at)s
    )
RETURNING name
