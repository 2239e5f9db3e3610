"""Configuration of gunicorn in production: gunicorn -c deploy/gunicorn.conf.py."""

from app import create_app
from harborguard.gunicorn import patches
from harborguard.gunicorn.hooks import ServerHooks
from harborguard.gunicorn.settings import load_config, make_settings

patches.apply()
service_config = load_config()
# gunicorn takes its settings and server hooks from the global names of this file.
globals().update(make_settings(service_config, ServerHooks(service_config, create_app)))
