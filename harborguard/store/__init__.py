"""The only package that uses psycopg.

It contains all SQL that is in neither `sql/` nor `harborguard/dev/embedded.py`.
"""
