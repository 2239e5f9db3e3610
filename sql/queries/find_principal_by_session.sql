-- Find the active user of a session by e-mail address, or by id if the session has no address.
SELECT id, organization_id, NULL AS registry_id, role, false AS has_stale_last_use
FROM users
WHERE (email = %(email)s OR (%(email)s::text IS NULL AND id = %(user_id)s))
    AND status = 'active'
