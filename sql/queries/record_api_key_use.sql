-- Record the use of a key, at most once a minute. Skip it if another transaction holds the row.
UPDATE api_keys
SET last_used_at = now()
WHERE id = (
    SELECT id
    FROM api_keys
    WHERE id = %(id)s
        AND coalesce(last_used_at < now() - interval '1 minute', true)
    FOR UPDATE SKIP LOCKED
)
