-- Record that a key was used, at most once a minute. Skip if another worker is recording it.
UPDATE api_keys
SET last_used_at = now()
WHERE id = (
    SELECT id
    FROM api_keys
    WHERE id = %(id)s
        AND coalesce(last_used_at < now() - interval '1 minute', true)
    FOR UPDATE SKIP LOCKED
)
