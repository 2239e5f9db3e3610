"""How gunicorn serves the application: settings, server hooks and patches."""
