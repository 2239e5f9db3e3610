-- Limit the next statement of this transaction to a number of milliseconds. Take the caller's export
-- lock and one of the slots until the transaction ends: EXISTS stops at the first free one. Return
-- whether the lock and a slot were free.
SELECT
    own.is_free,
    own.is_free AND EXISTS (
        SELECT
        FROM generate_series(1, %(slots)s) AS slot
        WHERE pg_try_advisory_xact_lock(hashtextextended('export slot ' || slot, 0))
    ) AS has_slot
FROM set_config('statement_timeout', %(timeout_ms)s::text, true)
CROSS JOIN LATERAL (
    SELECT pg_try_advisory_xact_lock(hashtextextended('export ' || %(caller)s, 0)) AS is_free
    OFFSET 0
) AS own
