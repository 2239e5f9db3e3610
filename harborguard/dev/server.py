"""Server hooks of `make run`: a private database with demo data, and a first request to try.

If DATABASE_URL is set, the service uses that database as it is.
"""

import os
import signal
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import click
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from harborguard.config import Config
from harborguard.dev.local import database, prepare_demo
from harborguard.errors import HarborGuardError
from harborguard.gunicorn.hooks import ServerHooks


@dataclass
class LocalState:
    """What the master process keeps across reloads: the running database and the demo key."""

    database: ExitStack | None = None
    demo_key: str = ""


class LocalServerHooks(ServerHooks):
    """The production hooks, with a database that starts and stops with the service."""

    local: ClassVar = LocalState()

    def on_starting(self, server: Arbiter) -> None:
        """Start the database and fill it, unless DATABASE_URL is set."""
        _check_port(self.config.port)
        if self.config.database_url:
            super().on_starting(server)
            return
        try:
            with ExitStack() as stack:
                config = stack.enter_context(database(self.config))
                self.local.demo_key = prepare_demo(config)
                # The workers read their configuration from the environment.
                os.environ["DATABASE_URL"] = config.database_url
                self.create_app(config)
                self.local.database = stack.pop_all()
        except HarborGuardError as error:
            sys.exit(f"harborguard: {error.message}")
        except KeyboardInterrupt:
            sys.exit(130)

    def when_ready(self, server: Arbiter) -> None:
        """Print a request to try, the address of the API reference and where the key is kept."""
        super().when_ready(server)
        click.echo(describe_service(self.config, self.local.demo_key))

    def post_worker_init(self, worker: Worker) -> None:
        """Ignore SIGINT in workers: Ctrl-C reaches all processes, and the master ends them."""
        super().post_worker_init(worker)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def on_exit(self, server: Arbiter) -> None:
        """Stop the database, after the workers have ended."""
        super().on_exit(server)
        if self.local.database:
            self.local.database.close()


def describe_service(config: Config, demo_key: str) -> str:
    """Return what `make run` prints when the service is ready."""
    url = f"http://127.0.0.1:{config.port}/api"
    key = demo_key or "hg_ak_..."
    lines = ["", "Serving. Try:", ""]
    lines += [f'  curl -s -H "X-API-Key: {key}" "{url}/images?limit=5"', ""]
    if config.docs:
        lines.append(f"API reference: {url}/docs")
    if demo_key:
        lines.append(f"The demo key is kept in {_shorten(config.state_directory / 'demo.key')}")
    return "\n".join([*lines, ""])


def _shorten(path: Path) -> Path:
    """Return a path below the current directory relative to it, and any other as it is."""
    current = Path.cwd()
    return path.relative_to(current) if path.is_relative_to(current) else path


def _check_port(port: int) -> None:
    """Exit if the port is taken, before the database starts."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            sys.exit(f"harborguard: port {port}: {error.strerror}; set PORT to another")
