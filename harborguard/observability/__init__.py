"""Logs, metrics and the metrics server."""
