-- Limit the other statements of this transaction to 500 ms, and take the lock of a caller's text
-- search until its end. Return whether the lock was free.
SELECT pg_try_advisory_xact_lock(hashtextextended('search ' || %(caller)s, 0))
FROM set_config('statement_timeout', '500', true)
