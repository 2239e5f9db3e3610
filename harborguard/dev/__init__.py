"""Local trial and tests: embedded PostgreSQL and demo data. No production command imports it."""
