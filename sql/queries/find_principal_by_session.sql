-- Who a session is: the active user with its e-mail address, or with its subject where it has none.
SELECT id, organization_id, NULL AS registry_id, role, false AS is_use_due
FROM users
WHERE (email = %(email)s OR (%(email)s::text IS NULL AND id = %(user_id)s))
    AND status = 'active'
