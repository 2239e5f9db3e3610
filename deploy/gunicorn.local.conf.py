"""Configuration of gunicorn for `make run`: production with a private database and demo data."""

from app import create_app
from harborguard.dev.server import LocalServerHooks
from harborguard.gunicorn import patches
from harborguard.gunicorn.settings import load_config, make_settings

patches.apply()
service_config = load_config()
globals().update(make_settings(service_config, LocalServerHooks(service_config, create_app)))
# Without a proxy, the idle connection of a browser would occupy a sync worker.
threads = max(4, service_config.threads)
