-- Delete the users, keys and tokens of an organization.
WITH deleted_key AS (
    DELETE FROM api_keys
    WHERE organization_id = %(organization_id)s
),
deleted_token AS (
    DELETE FROM personal_access_tokens
    WHERE organization_id = %(organization_id)s
        OR user_id IN (SELECT id FROM users WHERE organization_id = %(organization_id)s)
)
DELETE FROM users
WHERE organization_id = %(organization_id)s
