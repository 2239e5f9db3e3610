-- Count the images of an organization, by its counters, and its users and API keys.
SELECT
    coalesce(
        (SELECT image_count FROM inventories WHERE organization_id = %(organization_id)s), 0
    ) AS images,
    (SELECT count(*) FROM users WHERE organization_id = %(organization_id)s) AS users,
    (SELECT count(*) FROM api_keys WHERE organization_id = %(organization_id)s) AS keys
