-- Revokes a token for good; one that is revoked already keeps its first time.
UPDATE personal_access_tokens
SET revoked_at = coalesce(revoked_at, now())
WHERE id = %(id)s
RETURNING id
