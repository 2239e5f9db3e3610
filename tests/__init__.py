"""The test suite: `unit` and `meta` need no PostgreSQL; `store`, `api` and `e2e` do."""
