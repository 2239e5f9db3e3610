"""The recipe: `create_app` puts the service together from a Config, and touches nothing."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Request
from flask.sessions import NullSession, SessionInterface
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import MapAdapter

from harborguard.api import Services, init_api
from harborguard.auth.sessions import SessionReader
from harborguard.config import Config
from harborguard.store.pool import make_pool


class NoSessions(SessionInterface):
    """Flask's own sessions, which nobody has here: NextAuth's are another thing."""

    _none = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        """The same for every request; it cannot be written to."""
        return self._none


class Application(Flask):
    """Flask without what it does for every request, and this service never needs."""

    session_interface = NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function as it is: none is async."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Where the path leads. The Host is not read: no route hangs on it, and no answer names it.

        Flask's TRUSTED_HOSTS would have no effect.
        """
        if request is None:
            return super().create_url_adapter(None)
        return self.url_map.bind("", path_info=request.path, default_method=request.method)


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
