-- Record that a token was used, at most once a minute. Skip if another worker is recording it.
UPDATE personal_access_tokens
SET last_used_at = now()
WHERE id = (
    SELECT id
    FROM personal_access_tokens
    WHERE id = %(id)s
        AND coalesce(last_used_at < now() - interval '1 minute', true)
    FOR UPDATE SKIP LOCKED
)
