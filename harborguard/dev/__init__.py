"""Embedded database and demo data, for trials and tests. No production command imports it."""
