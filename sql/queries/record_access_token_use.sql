-- Record the use of a token, at most once a minute. Skip it if another transaction holds the row.
UPDATE personal_access_tokens
SET last_used_at = now()
WHERE id = (
    SELECT id
    FROM personal_access_tokens
    WHERE id = %(id)s
        AND coalesce(last_used_at < now() - interval '1 minute', true)
    FOR UPDATE SKIP LOCKED
)
