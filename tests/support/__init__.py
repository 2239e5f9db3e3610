"""Helpers shared by the tests. This package contains no tests."""
