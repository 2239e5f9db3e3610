"""WSGI entry point for gunicorn.

Builds the application from environment variables; opens no connection at import.
"""

from app import create_app
from harborguard.config import Config

application = create_app(Config.from_env())
