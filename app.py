"""The recipe: `create_app` puts the service together from a Config, and touches nothing."""

from collections.abc import Callable
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from harborguard.api import Services, init_api
from harborguard.config import Config
from harborguard.sessions import SessionReader
from harborguard.store.pool import make_pool


class Application(Flask):
    """Flask, for functions of which none is async: it need not look at each of them each time."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function as it is."""
        return func


def create_app(config: Config) -> Flask:
    """A WSGI application for a configuration; its pool is closed until somebody serves.

    Raises ConfigurationError for a session secret that is too weak to be one.
    """
    app = Application("harborguard", static_folder=None)
    # A redirect would be answered outside of the envelope, with the Host that a client sent.
    app.url_map.merge_slashes = False
    sessions = SessionReader(config.nextauth_secrets) if config.nextauth_secrets else None
    init_api(app, Services(make_pool(config), sessions, config))
    if config.proxies:
        # The caller's address for the log; nothing here depends on scheme, host or prefix.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=config.proxies, x_proto=0)
    return app
