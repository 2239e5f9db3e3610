-- Delete a user with all tokens; return the organization and the user's id.
WITH person AS (
    SELECT id
    FROM users
    WHERE email = %(email)s
),
deleted_token AS (
    DELETE FROM personal_access_tokens
    WHERE user_id IN (SELECT id FROM person)
)
DELETE FROM users
WHERE email = %(email)s
RETURNING organization_id, id
