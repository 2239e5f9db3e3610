-- Count the images of a registry, by its counters, and the API keys that are limited to it.
SELECT
    (
        SELECT coalesce(sum(n), 0)::bigint
        FROM image_counts
        WHERE organization_id = %(organization_id)s AND registry_id = %(registry_id)s
    ) AS images,
    (
        SELECT count(*)
        FROM api_keys
        WHERE organization_id = %(organization_id)s AND registry_id = %(registry_id)s
    ) AS keys
