-- Limit the other statements of this transaction to 500 ms. Take the caller's search lock until
-- the transaction ends. Return whether the lock was free.
SELECT pg_try_advisory_xact_lock(hashtextextended('search ' || %(caller)s, 0))
FROM set_config('statement_timeout', '500', true)
