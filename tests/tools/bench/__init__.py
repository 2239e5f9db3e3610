"""`make bench`: measure the list at 1k to 1M images and write docs/performance.md.

The same run measures two limits: a static server with the same response, and PostgreSQL alone.
"""
