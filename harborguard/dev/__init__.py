"""Embedded database and demo data, for trials and tests.

A command imports it only if DATABASE_URL is not set.
"""
