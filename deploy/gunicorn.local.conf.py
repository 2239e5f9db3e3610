"""`make run`: the production configuration, with a private database and demo data in it.

Where DATABASE_URL is set it serves from that, as it finds it.
"""

import os
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from runpy import run_path

from gunicorn.arbiter import Arbiter
from gunicorn.config import KNOWN_SETTINGS
from gunicorn.workers.base import Worker

from app import create_app
from harborguard.dev.local import database, prepare_demo
from harborguard.errors import HarborGuardError

production = run_path(str(Path(__file__).with_name("gunicorn.conf.py")))
globals().update({s.name: production[s.name] for s in KNOWN_SETTINGS if s.name in production})
settings = production["settings"]

# There is no proxy here, and a browser's idle connection would hold a sync worker.
threads = max(4, settings.threads)


def on_starting(server: Arbiter) -> None:
    """Starts the database that the workers will use, unless one is given."""
    _refuse_taken_port()
    if settings.database_url:
        production["on_starting"](server)
        return
    try:
        with ExitStack() as stack:
            config = stack.enter_context(database(settings))
            server.demo_key = prepare_demo(config)
            os.environ["DATABASE_URL"] = config.database_url
            create_app(config)
            server.database = stack.pop_all()
    except HarborGuardError as error:
        sys.exit(f"harborguard: {error.message}")
    except KeyboardInterrupt:
        sys.exit(130)


def when_ready(server: Arbiter) -> None:
    """Tells a newcomer what to type."""
    production["when_ready"](server)
    url = f"http://127.0.0.1:{settings.port}/api/images"
    key = getattr(server, "demo_key", "hg_ak_...")
    print(f'\nServing. Try:\n\n  curl -s -H "X-API-Key: {key}" "{url}?limit=5"\n', flush=True)


def post_worker_init(worker: Worker) -> None:
    """Ctrl-C reaches the whole group of a terminal; the workers wait for the master's word."""
    production["post_worker_init"](worker)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def on_exit(server: Arbiter) -> None:
    """Stops what was started; workers are gone by now."""
    production["on_exit"](server)
    if hasattr(server, "database"):
        server.database.close()


def _refuse_taken_port() -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", settings.port))
        except OSError as error:
            sys.exit(f"harborguard: port {settings.port}: {error.strerror}; set PORT to another")
