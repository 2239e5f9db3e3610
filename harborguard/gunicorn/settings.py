"""Settings of gunicorn. All others keep gunicorn's defaults."""

import sys

import gunicorn.config
import gunicorn.glogging

from harborguard.config import Config
from harborguard.errors import ConfigurationError
from harborguard.gunicorn.hooks import ServerHooks
from harborguard.observability.logs import configure_logging


def load_config() -> Config:
    """Return the configuration from the environment and set up logging; exit if it is invalid."""
    try:
        config = Config.from_env()
    except ConfigurationError as error:
        sys.exit(f"harborguard: {error.message}")
    configure_logging(config)
    return config


class Logger(gunicorn.glogging.Logger):
    """Send gunicorn's own events to the log of the service; the API logs each request."""

    def setup(self, cfg: gunicorn.config.Config) -> None:
        """Set up the loggers; gunicorn calls this at each reload too."""
        super().setup(cfg)
        self.error_log.propagate = True


def make_settings(config: Config, hooks: ServerHooks) -> dict[str, object]:
    """Return gunicorn's settings and server hooks by name."""
    return {
        "wsgi_app": "wsgi",
        # A socket passed by systemd (deploy/harborguard.socket) takes precedence.
        "bind": config.addresses,
        # Only the owner and the group may connect to a Unix socket. By default all accounts may.
        "umask": 0o117,
        "workers": config.workers,
        # gunicorn kills a worker whose request takes longer, in seconds. So it is longer than an
        # export may take.
        "timeout": max(30, config.export_timeout_ms // 1000 + 10),
        # One thread selects the sync worker, the most predictable one behind a buffering proxy.
        # More threads select gthread.
        "threads": config.threads,
        "logger_class": Logger,
        "errorlog": None,
        "loglevel": config.log_level,
        # A chunked session cookie is one header line of over 9 KB.
        "limit_request_field_size": 32768,
        # A search of 200 characters can take 12 bytes per character, percent-encoded.
        "limit_request_line": 8190,
        # By default a client on a trusted address can set SCRIPT_NAME with a header.
        "forwarder_headers": "",
        # By default gunicorn creates a control socket in the user's home directory.
        "control_socket_disable": True,
        # Replacing workers bounds the effect of a memory leak in a library.
        "max_requests": 10_000,
        "max_requests_jitter": 1_000,
        **hooks.by_name(),
    }
