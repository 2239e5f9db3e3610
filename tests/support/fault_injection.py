"""What the fault tests break: a cluster that can be stopped, a silent network, nginx, a pooler."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from harborguard.config import Config
from harborguard.dev.embedded import running_server
from harborguard.store.connection import connect
from harborguard.store.migrations import migrate
from tests.support.postgres import program
from tests.support.service import PRODUCTION, ROOT, Service, free_port, running, start
from tests.support.tenants import Tenants
from tests.support.waiting import wait_until


def need(program: str) -> str:
    """A program's path; where it is missing the test is skipped, and in CI it fails."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        reason = f"{program} is not installed: apt-get install {program}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def short_directory() -> Iterator[Path]:
    """A folder that every account can enter, with a path short enough for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="hg-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


# the database


@dataclass
class Cluster:
    """A PostgreSQL server of our own that can be stopped and started."""

    directory: Path
    url: str = ""
    superuser_url: str = ""
    stack: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Starts it; from the main thread, with which it ends."""
        server = self.stack.enter_context(running_server(self.directory))
        self.url, self.superuser_url = server.url, server.superuser_url

    @property
    def sockets(self) -> str:
        """The folder of its socket."""
        return str(conninfo_to_dict(self.url)["host"])

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.directory / "postgres-18"

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """Ends it as `pg_ctl stop -m immediate` does, or by another of the postmaster's signals."""
        pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, number)
        self.stack.close()

    def ask(self, query: str) -> list[tuple]:
        """A superuser's question to the service's database."""
        url = self.superuser_url.replace("@/postgres", "@/harborguard")
        with psycopg.connect(url, autocommit=True) as conn:
            cursor = conn.execute(query)  # pyright: ignore
            return cursor.fetchall() if cursor.description else []


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A running server, gone at the end."""
    with short_directory() as directory:
        made = Cluster(directory / "pg")
        made.start()
        try:
            yield made
        finally:
            made.stack.close()


@contextmanager
def replica_of(primary: Cluster) -> Iterator[Cluster]:
    """A server that streams from another, and can be promoted."""
    # The map of accounts names the one that runs us; `all` does not mean replication.
    with primary.data.with_suffix(".hba").open("a") as rules:
        rules.write("local replication all peer map=harborguard\n")
    primary.ask("SELECT pg_reload_conf()")
    with short_directory() as directory:
        made = Cluster(directory / "pg")
        made.directory.mkdir(mode=0o700)
        command = [program("pg_basebackup"), "-h", primary.sockets, "-p", "5432", "-U", "postgres"]
        command += ["-D", str(made.data), "-R", "-X", "stream", "-c", "fast"]
        subprocess.run(command, check=True, capture_output=True)
        owner = primary.data.stat()
        for path in (made.directory, made.data, *made.data.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        made.start()
        try:
            yield made
        finally:
            made.stack.close()


def seed(url: str, keys: int = 100, images: int = 40) -> list[str]:
    """Migrates, adds images, and answers with keys that may list them.

    There are many keys because nginx counts requests by key.
    """
    with connect(Config(database_url=url)) as conn:
        migrate(conn)
        acme = Tenants(conn).acme
        for number in range(images):
            acme.add_image(f"ghcr.io/acme/image-{number}", number % 101)
        return [acme.add_key() for _ in range(keys)]


# the network


class Relay:
    """A TCP port before a Unix socket, that can go silent with every connection still alive."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.speaks = threading.Event()
        self.speaks.set()
        self.ends: list[socket.socket] = []
        self.is_over = False
        self.acceptor = self._spawn(self._accept)

    def _spawn(self, work: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=args, daemon=True)
        thread.start()
        return thread

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                self.ends.append(near)
                self.speaks.wait()  # the others wait in the kernel, as before a frozen host
                if self.is_over:
                    return
                far = socket.socket(socket.AF_UNIX)
                self.ends.append(far)
                far.connect(self.target)
                self._spawn(self._pump, near, far)
                self._spawn(self._pump, far, near)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while part := source.recv(65536):
                self.speaks.wait()
                sink.sendall(part)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends all."""
        self.is_over = True
        self.speaks.set()
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.acceptor.join()  # nothing is added to the ends after that
        for end in (self.listener, *self.ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def relay_to(server: Cluster) -> Iterator[tuple[Relay, str]]:
    """A relay before a server, and the URL of its database through the relay."""
    relay = Relay(f"{server.sockets}/.s.PGSQL.5432")
    try:
        yield relay, f"postgresql://harborguard@127.0.0.1:{relay.port}/harborguard"
    finally:
        relay.close()


# the processes


@contextmanager
def nginx(directory: Path) -> Iterator[int]:
    """nginx with the shipped file, on a port of this machine, in a folder of its own."""
    command, port = need("nginx"), free_port()
    text = (ROOT / "deploy/nginx.conf").read_text()
    places = {
        "listen 80 default_server": f"listen 127.0.0.1:{port} default_server",
        "/run/harborguard/": f"{directory}/",
        "/var/log/nginx/": f"{directory}/",
        "\nhttp {\n": "\nhttp {\n"
        + "".join(
            f"{kind}_temp_path {directory}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ),
    }
    for shipped, here in places.items():
        assert shipped in text
        text = text.replace(shipped, here)
    (directory / "nginx.conf").write_text(text)
    aside = f"daemon off; pid {directory}/nginx.pid;"
    with listening(port, [command, "-e", "stderr", "-c", f"{directory}/nginx.conf", "-g", aside]):
        yield port


@contextmanager
def listening(port: int, command: list[str], **options: Any) -> Iterator[None]:
    """A program, once it listens on a port; gone at the end."""
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **options) as process:
        try:
            wait_until(lambda: opens(port))
            yield
        finally:
            process.terminate()


def opens(port: int) -> bool:
    """Whether somebody listens."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def deployed(database_url: str, **settings: str) -> Iterator[Service]:
    """The service as an operator deploys it: shipped gunicorn and nginx, a Unix socket between."""
    with short_directory() as directory, nginx(directory) as port:
        bind = f"unix:{directory}/harborguard.sock"
        settings = {"DATABASE_URL": database_url, "HARBORGUARD_BIND": bind, **settings}
        with running(start(PRODUCTION, port, HARBORGUARD_PROXIES="1", **settings), port) as service:
            yield service


@contextmanager
def pgbouncer(server: Cluster) -> Iterator[int]:
    """A pooler in transaction mode before a server; its port."""
    command, port = need("pgbouncer"), free_port()
    with short_directory() as directory:
        file = directory / "pgbouncer.ini"
        file.write_text(
            f"[databases]\n* = host={server.sockets} port=5432 user=harborguard\n"
            "[pgbouncer]\npool_mode = transaction\nauth_type = any\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            "max_client_conn = 500\ndefault_pool_size = 10\n"
        )
        file.chmod(0o644)
        # The program refuses root; the account that runs the server may use its socket.
        owner = server.data.stat()
        identity = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        with listening(port, [command, str(file)], **({} if os.geteuid() else identity)):
            yield port


# the callers


@dataclass(frozen=True)
class Call:
    """One request: when it began (monotonic), how long it took, the status or the mishap."""

    began: float
    took: float
    result: int | str

    @property
    def ended(self) -> float:
        """When the answer was there."""
        return self.began + self.took


def call(port: int, key: str, path: str = "/api/images?limit=5", method: str = "GET") -> Call:
    """One request on a connection of its own."""
    began = time.monotonic()
    try:
        conn = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        conn.request(method, path, headers={"X-API-Key": key, "Connection": "close"})
        with conn.getresponse() as response:
            response.read()
        conn.close()
        result: int | str = response.status
    except (OSError, http.client.HTTPException) as error:
        result = type(error).__name__
    return Call(began, time.monotonic() - began, result)


@contextmanager
def callers(
    port: int, keys: list[str], count: int = 4, pause: float = 0.02
) -> Iterator[list[Call]]:
    """People who ask again and again until the block ends; the list of what they got grows."""
    made: list[Call] = []
    over = threading.Event()

    def work(mine: list[str]) -> None:
        for key in cycle(mine):
            made.append(call(port, key))
            if over.wait(pause):
                return

    threads = [threading.Thread(target=work, args=(keys[i::count],)) for i in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        over.set()
        for thread in threads:
            thread.join()


def results(calls: list[Call]) -> Counter[int | str]:
    """How often each result was had."""
    return Counter(call.result for call in calls)


SCRIPT = """
local keys, n = {%s}, 0
function request()
  n = n %% #keys + 1
  return wrk.format("GET", "/api/images?limit=5", {["X-API-Key"] = keys[n]%s})
end
"""


@dataclass(frozen=True)
class Load:
    """What wrk counted; `failed` is all that is not 200, broken connections too."""

    requests: int
    failed: int
    p50_ms: float
    p99_ms: float
    per_second: float


@contextmanager
def wrk(
    port: int, keys: list[str], seconds: float, *, connections: int = 8, close: bool = False
) -> Iterator[list[Load]]:
    """wrk during the block and for `seconds` at least; what it found is in the list afterwards."""
    closing = ', ["Connection"] = "close"' if close else ""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT % (", ".join(f'"{key}"' for key in keys), closing))
        script.flush()
        command = [need("wrk"), "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency"]
        command += ["--timeout", "10s", "-s", script.name, f"http://127.0.0.1:{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            found: list[Load] = []
            yield found
            said, _ = process.communicate(timeout=seconds + 60)
    found.append(read_wrk(said))


def read_wrk(said: str) -> Load:
    """wrk's words as figures."""

    def number(pattern: str) -> float:
        match = re.search(pattern, said)
        return float(match[1]) if match else 0

    def milliseconds(percent: str) -> float:
        match = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)\s*\n", said)
        assert match, said
        return float(match[1]) * {"us": 0.001, "ms": 1, "s": 1000}[match[2]]

    broken = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    failed = number(r"Non-2xx or 3xx responses: (\d+)")
    failed += sum(map(int, broken.groups())) if broken else 0
    return Load(
        int(number(r"(\d+) requests in")), int(failed), milliseconds("50"), milliseconds("99"),
        number(r"Requests/sec:\s+([\d.]+)"),
    )  # fmt: skip


def through(url: str, port: int) -> str:
    """A database's URL with another way to it."""
    return (
        f"postgresql://harborguard@127.0.0.1:{port}/{quote(str(conninfo_to_dict(url)['dbname']))}"
    )
