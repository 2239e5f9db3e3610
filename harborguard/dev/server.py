"""Server hooks of `make run`: an embedded database with demo data, and a first request to try.

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
from gunicorn.util import parse_address
from gunicorn.workers.base import Worker

from harborguard.config import Config
from harborguard.dev.local import embedded_database, prepare_demo
from harborguard.errors import HarborGuardError
from harborguard.gunicorn.hooks import ServerHooks


@dataclass
class LocalState:
    """State of the master process that reloads do not reset: the database and the demo key."""

    database: ExitStack | None = None
    demo_key: str = ""


class LocalServerHooks(ServerHooks):
    """The production hooks, with a database that starts and stops with the service."""

    local: ClassVar = LocalState()

    def on_starting(self, server: Arbiter) -> None:
        """Start the database and fill it, unless DATABASE_URL is set."""
        for address in self.config.addresses:
            _check_address(address)
        # The workers read their configuration from the environment.
        os.environ["HARBORGUARD_THREADS"] = str(self.config.threads)
        if self.config.database_url:
            super().on_starting(server)
            return
        try:
            with ExitStack() as stack:
                config = stack.enter_context(embedded_database(self.config))
                self.local.demo_key = prepare_demo(config)
                os.environ["DATABASE_URL"] = config.database_url
                self.create_app(config)
                self.local.database = stack.pop_all()
        except HarborGuardError as error:
            sys.exit(f"harborguard: {error.message}")
        except KeyboardInterrupt:
            sys.exit(130)

    def when_ready(self, server: Arbiter) -> None:
        """Print a request to try, the address of the API reference and where the key is stored."""
        super().when_ready(server)
        click.echo(describe_service(self.config, self.local.demo_key))

    def post_worker_init(self, worker: Worker) -> None:
        """Ignore SIGINT: Ctrl-C sends it to the workers too, but the master stops them."""
        super().post_worker_init(worker)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def on_exit(self, server: Arbiter) -> None:
        """Stop the database, after the workers have ended."""
        super().on_exit(server)
        if self.local.database:
            self.local.database.close()


def describe_service(config: Config, demo_key: str) -> str:
    """Return what `make run` prints when the service is ready."""
    address = config.addresses[0]
    key = demo_key or "hg_ak_..."
    socket_option, url = "", f"http://{address}/api"
    if address.startswith("unix:"):
        socket_option, url = (
            f"--unix-socket {address.removeprefix('unix:')} ",
            "http://localhost/api",
        )
    lines = ["", "The service is ready. Try:", ""]
    lines += [f'  curl -s {socket_option}-H "X-API-Key: {key}" "{url}/images?limit=5"', ""]
    if config.page:
        lines.append(f"Page for a browser: {url.removesuffix('api')}")
    if config.docs:
        lines.append(f"API reference: {url}/docs")
    if demo_key:
        lines.append(f"The demo key is stored in {_shorten(config.state_directory / 'demo.key')}")
    return "\n".join([*lines, ""])


def _shorten(path: Path) -> Path:
    """Return a path below the current directory relative to it, and any other as it is."""
    current = Path.cwd()
    return path.relative_to(current) if path.is_relative_to(current) else path


def _check_address(address: str) -> None:
    """Exit if the service cannot listen on an address, before the database starts."""
    host_and_port = parse_address(address)
    if not isinstance(host_and_port, tuple):
        return
    family = socket.AF_INET6 if ":" in host_and_port[0] else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(host_and_port)
        except OSError as error:
            sys.exit(
                f"harborguard: The service cannot listen on {address}: {error.strerror}. "
                "Set PORT or HARBORGUARD_BIND to another address."
            )
