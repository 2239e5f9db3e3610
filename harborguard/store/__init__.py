"""The only package that contains SQL and uses psycopg."""
