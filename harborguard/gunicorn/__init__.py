"""gunicorn server hooks and patches of its behaviour."""
