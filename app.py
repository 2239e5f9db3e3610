"""Application factory: `create_app` wires the service together from a Config and does no I/O."""

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from harborguard.api import Services, init_api
from harborguard.auth.sessions import SessionReader
from harborguard.config import Config
from harborguard.store.pool import make_pool


def create_app(config: Config) -> Flask:
    """Return the WSGI application for a configuration; its connection pool is still closed.

    Raise ConfigurationError if a session secret is too weak.
    """
    app = Flask("harborguard", static_folder=None)
    # Otherwise Werkzeug redirects `//path` to `/path`, with the Host that the client sent.
    app.url_map.merge_slashes = False
    sessions = SessionReader(config.nextauth_secrets) if config.nextauth_secrets else None
    init_api(app, Services(make_pool(config), sessions, config))
    if config.proxies:
        # Take only the client's address, for the log. Forwarded schemes and hosts are ignored.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=config.proxies, x_proto=0)
    return app
