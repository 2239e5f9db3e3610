"""How gunicorn serves the service: gunicorn -c deploy/gunicorn.conf.py

Every value here was set for a reason; what is not here is gunicorn's default.
"""

import ctypes
import gc
import json
import signal
import sys
from http import HTTPStatus
from socket import socket

import gunicorn.config
import gunicorn.glogging
import gunicorn.util
from gunicorn.arbiter import Arbiter
from gunicorn.http.wsgi import Response
from gunicorn.workers.base import Worker

from app import create_app
from harborguard import __version__
from harborguard.config import Config
from harborguard.errors import ConfigurationError, HarborGuardError
from harborguard.observability.logs import configure_logging
from harborguard.observability.metrics_server import MetricsServer
from harborguard.store.connection import connect
from harborguard.store.errors import translate_error
from harborguard.store.migrations import OUT_OF_DATE, schema_state

try:
    settings = Config.from_env()
except ConfigurationError as error:
    sys.exit(f"harborguard: {error.message}")

configure_logging(settings)

ENDINGS = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


class Logger(gunicorn.glogging.Logger):
    """gunicorn's own lines go where all others go; each request is told by the API."""

    def setup(self, cfg: gunicorn.config.Config) -> None:
        """Also called at each reload."""
        super().setup(cfg)
        self.error_log.propagate = True


logger_class = Logger
errorlog = None
loglevel = settings.log_level

wsgi_app = "wsgi"
# A socket that systemd hands over (deploy/harborguard.socket) takes the place of these.
bind = settings.addresses
workers = settings.workers
# One thread makes the sync worker, the steadiest behind a proxy that buffers; more make gthread.
threads = settings.threads

# A chunked session cookie is one header line of over 9 KB, and 200 characters of search can take
# 12 bytes each.
limit_request_field_size = 32768
limit_request_line = 8190

# By default a client on a trusted address can move the application with a SCRIPT_NAME header.
forwarder_headers = ""
# By default there is a control socket in the home directory of whoever runs the service.
control_socket_disable = True

# A worker is replaced now and then, so that no leak of a library lives long.
max_requests = 10_000
max_requests_jitter = 1_000


def on_starting(server: Arbiter) -> None:
    """Refuses bad settings and an older schema before anything listens.

    A database that does not answer is no reason to refuse: the service says 503 until it does.
    """
    if not settings.database_url:
        sys.exit("harborguard: DATABASE_URL is not set")
    try:
        create_app(settings)  # in a worker, what is wrong would be told by every one, for ever
        with connect(settings) as conn:
            state = schema_state(conn)
    except HarborGuardError as error:
        sys.exit(f"harborguard: {error.message}")
    except Exception as error:
        if translate_error(error) is None:
            raise
        server.log.warning("The database does not answer yet: %s", str(error).splitlines()[0])
        return
    if state.pending:
        sys.exit(f"harborguard: {OUT_OF_DATE}")
    if state.unknown:
        server.log.warning("The schema is newer than this release: steps %s", state.unknown)


def when_ready(server: Arbiter) -> None:
    """Metrics are told by the master: workers come and go, and their port is the world's."""
    server.log.info("HarborGuard Images %s is serving", __version__)
    if not settings.metrics_port:
        return
    try:
        server.exposition = MetricsServer(settings.metrics_port)
    except OSError as error:
        server.log.warning("Metrics are not served: port %s: %s", settings.metrics_port, error)


def on_reload(server: Arbiter) -> None:
    """What was frozen for the workers before may go: they go too."""
    gc.unfreeze()
    gc.collect()


def pre_fork(server: Arbiter, worker: Worker) -> None:
    """What is loaded is shared; a worker counts in the files of a place no living worker has."""
    # A worker's collector writes to whatever it looks at, and makes the memory its own by that:
    # it need not look at what the master has loaded, which stays. Some 30 MB less for two workers.
    gc.freeze()
    if hasattr(server, "exposition"):
        taken = {other.place for other in server.WORKERS.values()}
        worker.place = server.exposition.prepare_slot(taken)


def child_exit(server: Arbiter, worker: Worker) -> None:
    """Its place is free."""
    if hasattr(server, "exposition"):
        server.exposition.detach_worker(worker.place)


def on_exit(server: Arbiter) -> None:
    """Nothing stays behind."""
    if hasattr(server, "exposition"):
        server.exposition.close()


def post_fork(server: Arbiter, worker: Worker) -> None:
    """A worker ends with its master, which kill -9 does not let say goodbye."""
    for number in ENDINGS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
    if hasattr(server, "exposition"):
        server.exposition.join(worker.place)
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def post_worker_init(worker: Worker) -> None:
    """The pool is opened in the process that uses it: connections do not survive a fork."""
    worker.wsgi.extensions["harborguard"].pool.open()


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """The database is told goodbye, by whoever lived long enough to know it."""
    if hasattr(worker, "wsgi"):
        worker.wsgi.extensions["harborguard"].pool.close(timeout=1)


def write_error(sock: socket, status_int: int, reason: str, mesg: str) -> None:
    """gunicorn's own refusals in the API's envelope; its `mesg` would echo the client's bytes."""
    code = {413: "PAYLOAD_TOO_LARGE", 500: "INTERNAL_ERROR"}.get(status_int, "BAD_REQUEST")
    message = HTTPStatus(status_int).phrase
    body = json.dumps({"error": {"code": code, "message": message}}, separators=(",", ":"))
    head = (
        f"HTTP/1.1 {status_int} {message}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    gunicorn.util.write_nonblock(sock, f"{head}{body}".encode("ascii"))


gunicorn.util.write_error = write_error


class Joined(bytearray):
    """Stands in for a socket, and keeps what is sent."""

    sendall = bytearray.extend


def write_whole(response: Response, body: bytes) -> None:
    """Head and body in one piece: a head alone, of a worker killed then, nginx cannot try again."""
    if response.headers_sent:
        write_on(response, body)
        return
    sock, joined = response.sock, Joined()
    response.sock = joined
    try:
        write_on(response, body)
    finally:
        response.sock = sock
    sock.sendall(joined)


def spawn_held(server: Arbiter) -> int:
    """A worker begins deaf, until post_fork: the master's own handlers would swallow its end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        return spawn_on(server)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)


# This file is read again at each reload: what stands there by then is ours already.
write_on = getattr(Response.write, "original", Response.write)
spawn_on = getattr(Arbiter.spawn_worker, "original", Arbiter.spawn_worker)
write_whole.original = write_on
spawn_held.original = spawn_on
Response.write = write_whole
Arbiter.spawn_worker = spawn_held
