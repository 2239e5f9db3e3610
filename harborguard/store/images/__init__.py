"""Queries over images: the list, one image, its tags and findings, and the summary."""
