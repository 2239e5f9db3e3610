"""Tools of the fault tests: a database server, a network relay, nginx, pgbouncer and load."""

import http.client
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

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


def require_program(program: str) -> str:
    """Return the path of a program; skip the test if it is missing, or fail in CI."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        reason = f"{program} is not installed: apt-get install {program}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def short_directory() -> Iterator[Path]:
    """Yield a directory that every account can enter; its path is short enough for Unix sockets."""
    directory = Path(tempfile.mkdtemp(prefix="hg-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


# -- database


@dataclass
class Cluster:
    """A private PostgreSQL server that can be stopped and started."""

    directory: Path
    url: str = ""
    superuser_url: str = ""
    stack: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Start the server. Call this in the main thread: the server ends with its thread."""
        server = self.stack.enter_context(running_server(self.directory))
        self.url, self.superuser_url = server.url, server.superuser_url

    @property
    def socket_directory(self) -> str:
        """Return the directory of its socket."""
        return str(conninfo_to_dict(self.url)["host"])

    @property
    def data_directory(self) -> Path:
        """Return its data directory."""
        return self.directory / "postgres-18"

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """Stop the server as `pg_ctl stop -m immediate` does, or by another signal."""
        pid = int((self.data_directory / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, number)
        self.stack.close()

    def execute(self, query: str) -> list[tuple]:
        """Run a statement in the service's database as superuser and return the rows."""
        url = self.superuser_url.replace("@/postgres", "@/harborguard")
        with psycopg.connect(url, autocommit=True) as conn:
            cursor = conn.execute(query)  # pyright: ignore
            return cursor.fetchall() if cursor.description else []


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run a server during the block."""
    with short_directory() as directory:
        server = Cluster(directory / "pg")
        server.start()
        try:
            yield server
        finally:
            server.stack.close()


def allow_own_account(server: Cluster) -> None:
    """Let processes of the account that runs a server connect to it, as pgbouncer does."""
    account = pwd.getpwuid(server.data_directory.stat().st_uid).pw_name
    with server.data_directory.with_suffix(".ident").open("a") as names:
        names.write(f'harborguard "{account}" all\n')
    server.execute("SELECT pg_reload_conf()")


@contextmanager
def replica_of(primary: Cluster) -> Iterator[Cluster]:
    """Run a streaming replica of a server during the block."""
    # Allow this account to replicate: the database name `all` does not include replication.
    with primary.data_directory.with_suffix(".hba").open("a") as rules:
        rules.write("local replication all peer map=harborguard\n")
    allow_own_account(primary)
    with short_directory() as directory:
        replica = Cluster(directory / "pg")
        replica.directory.mkdir(mode=0o700)
        command = [
            program("pg_basebackup"),
            "-h",
            primary.socket_directory,
            "-p",
            "5432",
            "-U",
            "postgres",
        ]
        command += ["-D", str(replica.data_directory), "-R", "-X", "stream", "-c", "fast"]
        subprocess.run(command, check=True, capture_output=True)
        owner = primary.data_directory.stat()
        for path in (replica.directory, replica.data_directory, *replica.data_directory.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        replica.start()
        try:
            yield replica
        finally:
            replica.stack.close()


def seed(url: str, keys: int = 100, images: int = 40) -> list[str]:
    """Migrate, add images, and return API keys that may list them.

    nginx limits the rate of each key, so load needs many keys.
    """
    with connect(Config(database_url=url)) as conn:
        migrate(conn)
        acme = Tenants(conn).acme
        for number in range(images):
            acme.add_image(f"ghcr.io/acme/image-{number}", number % 101)
        return [acme.add_key() for _ in range(keys)]


# -- network


class Relay:
    """Forward a TCP port to a Unix socket while `forwarding` is set.

    While it is cleared, the relay acts like a frozen host: connections stay open and TCP
    acknowledges all data, but no response arrives.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.forwarding = threading.Event()
        self.forwarding.set()
        self.ends: list[socket.socket] = []
        self.is_closed = False
        self.acceptor = self._spawn(self._accept)

    def _spawn(self, work: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=args, daemon=True)
        thread.start()
        return thread

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.ends.append(client)
                self.forwarding.wait()  # other clients wait in the listen queue of the kernel
                if self.is_closed:
                    return
                server = socket.socket(socket.AF_UNIX)
                self.ends.append(server)
                server.connect(self.target)
                self._spawn(self._forward, client, server)
                self._spawn(self._forward, server, client)

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while part := source.recv(65536):
                self.forwarding.wait()
                target.sendall(part)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the port and all connections."""
        self.is_closed = True
        self.forwarding.set()
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.acceptor.join()  # after that, no connection is added
        for end in (self.listener, *self.ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def relay_to(server: Cluster) -> Iterator[tuple[Relay, str]]:
    """Run a relay to a server; yield it and the URL of the database through it."""
    relay = Relay(f"{server.socket_directory}/.s.PGSQL.5432")
    try:
        yield relay, f"postgresql://harborguard@127.0.0.1:{relay.port}/harborguard"
    finally:
        relay.close()


# -- processes

ADDRESS_RATE = "200r/s"  # in deploy/nginx.conf


@contextmanager
def nginx(
    directory: Path, *, address_rate: str = "100000r/s", behind_balancer: bool = False
) -> Iterator[int]:
    """Run nginx with deploy/nginx.conf, on a free port and with files in a directory.

    All load of the tests comes from one address, so its rate is practically unlimited by default.
    With `behind_balancer`, the two lines for another proxy are enabled.
    """
    port = free_port()
    text = (ROOT / "deploy/nginx.conf").read_text()
    replacements = {
        "listen 80 default_server": f"listen 127.0.0.1:{port} default_server",
        "/run/harborguard/": f"{directory}/",
        "/var/log/nginx/": f"{directory}/",
        f"zone=addresses:10m rate={ADDRESS_RATE};": f"zone=addresses:10m rate={address_rate};",
        "\nhttp {\n": f"\nhttp {{\n{_temporary_paths(directory)}",
    }
    if behind_balancer:
        replacements["#   set_real_ip_from 10.0.0.0/8;"] = "set_real_ip_from 127.0.0.1;"
        replacements["#   real_ip_header "] = "real_ip_header "
    with _running_nginx(directory, _replace_all(text, replacements), port):
        yield port


@contextmanager
def balancer(directory: Path, nodes: list[int]) -> Iterator[int]:
    """Run nginx with deploy/balancer.conf for two nodes, given by their ports; yield its port."""
    port = free_port()
    text = (ROOT / "deploy/balancer.conf").read_text()
    replacements = {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "/var/log/nginx/": f"{directory}/",
        "server 10.0.0.11:80 ": f"server 127.0.0.1:{nodes[0]} ",
        "server 10.0.0.12:80 ": f"server 127.0.0.1:{nodes[1]} ",
    }
    server = _replace_all(text, replacements)
    complete = f"events {{}}\nhttp {{\n{_temporary_paths(directory)}{server}}}\n"
    with _running_nginx(directory, complete, port):
        yield port


def _replace_all(text: str, replacements: Mapping[str, str]) -> str:
    """Replace parts of a shipped file; fail if it does not have one of them."""
    for shipped, replacement in replacements.items():
        assert shipped in text
        text = text.replace(shipped, replacement)
    return text


def _temporary_paths(directory: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in kinds)


@contextmanager
def _running_nginx(directory: Path, text: str, port: int) -> Iterator[None]:
    file = directory / "nginx.conf"
    file.write_text(text)
    options = ["-e", "stderr", "-g", f"daemon off; pid {directory}/nginx.pid;"]
    with listening(port, [require_program("nginx"), "-c", str(file), *options]):
        yield


@contextmanager
def listening(port: int, command: list[str], **options: Any) -> Iterator[None]:
    """Run a program during the block, which starts when the program listens on a port."""
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **options) as process:
        try:
            wait_until(lambda: is_listening(port))
            yield
        finally:
            process.terminate()


def is_listening(port: int) -> bool:
    """Return whether a port accepts connections."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def deployed(database_url: str, **settings: str) -> Iterator[Service]:
    """Run the service as an operator deploys it: nginx, a Unix socket and gunicorn."""
    with (
        short_directory() as directory,
        nginx(directory) as port,
        behind_nginx(directory, port, database_url, **settings) as service,
    ):
        yield service


@contextmanager
def deployed_as_shipped(directory: Path, database_url: str, **settings: str) -> Iterator[Service]:
    """Run the service like `deployed`, with all limits, and with nginx's files in a directory."""
    with (
        nginx(directory, address_rate=ADDRESS_RATE) as port,
        behind_nginx(directory, port, database_url, **settings) as service,
    ):
        yield service


@contextmanager
def behind_nginx(
    directory: Path, port: int, database_url: str, **settings: str
) -> Iterator[Service]:
    """Run the service on the socket of an nginx that listens on a port."""
    bind = f"unix:{directory}/harborguard.sock"
    settings = {"DATABASE_URL": database_url, "HARBORGUARD_BIND": bind, **settings}
    if os.geteuid() == 0:
        # The socket gets the group of nginx's workers.
        options = settings.get("GUNICORN_CMD_ARGS", "")
        settings["GUNICORN_CMD_ARGS"] = f"{options} --group www-data"
    with running(start(PRODUCTION, port, HARBORGUARD_PROXIES="1", **settings), port) as service:
        yield service


@contextmanager
def pgbouncer(server: Cluster) -> Iterator[int]:
    """Run pgbouncer in transaction mode in front of a server; yield its port."""
    command, port = require_program("pgbouncer"), free_port()
    with short_directory() as directory:
        file = directory / "pgbouncer.ini"
        file.write_text(
            f"[databases]\n* = host={server.socket_directory} port=5432 user=harborguard\n"
            "[pgbouncer]\npool_mode = transaction\nauth_type = any\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            "max_client_conn = 500\ndefault_pool_size = 10\n"
        )
        file.chmod(0o644)
        # pgbouncer does not run as root. The account of the server may use its socket.
        allow_own_account(server)
        owner = server.data_directory.stat()
        identity = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        with listening(port, [command, str(file)], **({} if os.geteuid() else identity)):
            yield port


# -- clients and load


@dataclass(frozen=True)
class Call:
    """A request: monotonic start time and duration in seconds, and the status or error."""

    began: float
    took: float
    result: int | str

    @property
    def ended(self) -> float:
        """Return the monotonic time of the response."""
        return self.began + self.took


def call(port: int, key: str, path: str = "/api/images?limit=5", method: str = "GET") -> Call:
    """Send a request on a new connection."""
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
def clients(
    port: int, keys: list[str], count: int = 4, pause: float = 0.02
) -> Iterator[list[Call]]:
    """Run clients that send requests during the block; yield the growing list of their calls."""
    calls: list[Call] = []
    stopping = threading.Event()

    def work(own_keys: list[str]) -> None:
        for key in cycle(own_keys):
            calls.append(call(port, key))
            if stopping.wait(pause):
                return

    threads = [threading.Thread(target=work, args=(keys[i::count],)) for i in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield calls
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def results(calls: list[Call]) -> Counter[int | str]:
    """Count the calls by result."""
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
    """The figures of wrk; `failed` includes error statuses and broken connections."""

    requests: int
    failed: int
    p50_ms: float
    p99_ms: float
    per_second: float


@contextmanager
def wrk(
    port: int, keys: list[str], seconds: float, *, connections: int = 8, close: bool = False
) -> Iterator[list[Load]]:
    """Run wrk for `seconds`; the list that is yielded has its figures after the block."""
    closing = ', ["Connection"] = "close"' if close else ""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT % (", ".join(f'"{key}"' for key in keys), closing))
        script.flush()
        command = [
            require_program("wrk"),
            "-t1",
            f"-c{connections}",
            f"-d{seconds:.0f}s",
            "--latency",
        ]
        command += ["--timeout", "10s", "-s", script.name, f"http://127.0.0.1:{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            loads: list[Load] = []
            yield loads
            output, _ = process.communicate(timeout=seconds + 60)
    loads.append(read_wrk(output))


def read_wrk(output: str) -> Load:
    """Parse the output of wrk."""

    def number(pattern: str) -> float:
        match = re.search(pattern, output)
        return float(match[1]) if match else 0

    def milliseconds(percent: str) -> float:
        match = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)\s*\n", output)
        assert match, output
        return float(match[1]) * {"us": 0.001, "ms": 1, "s": 1000}[match[2]]

    broken = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    failed = number(r"Non-2xx or 3xx responses: (\d+)")
    failed += sum(map(int, broken.groups())) if broken else 0
    return Load(
        int(number(r"(\d+) requests in")), int(failed), milliseconds("50"), milliseconds("99"),
        number(r"Requests/sec:\s+([\d.]+)"),
    )  # fmt: skip
