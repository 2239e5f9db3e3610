"""WSGI entry point for gunicorn.

Build the application from environment variables; open no connection at import.
"""

from app import create_app
from harborguard.config import Config

application = create_app(Config.from_env())
