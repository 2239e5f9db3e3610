"""Configuration of gunicorn for `make run`: production with a private database and demo data."""

from dataclasses import replace

from app import create_app
from harborguard.dev.server import LocalServerHooks
from harborguard.gunicorn import patches
from harborguard.gunicorn.settings import load_config, make_settings

patches.apply()
service_config = load_config()
# Without a proxy, the idle connection of a browser would occupy a sync worker.
service_config = replace(service_config, threads=max(4, service_config.threads))
globals().update(make_settings(service_config, LocalServerHooks(service_config, create_app)))
