"""Run the service as a process, and send requests to it."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.support import leaks
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
PRODUCTION = "deploy/gunicorn.conf.py"
LOCAL = "deploy/gunicorn.local.conf.py"


@dataclass
class Response:
    """An HTTP response as received."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the parsed body; the Content-Type must be JSON."""
        assert self.headers["content-type"] == "application/json", self
        return json.loads(self.body)


@dataclass
class Service:
    """A running service: its port, its process, its output and its number of workers."""

    port: int
    process: subprocess.Popen[str]
    output: list[str] = field(default_factory=list)
    size: int = 2

    def request(
        self,
        path: str,
        headers: dict[str, str] | None = None,
        method: str = "GET",
        body: bytes = b"",
    ) -> Response:
        """Send a well-formed request and return the response."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def send(self, request: bytes) -> Response:
        """Send any bytes and return the response."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as conn:
            conn.sendall(request)
            received = b""
            while part := conn.recv(65536):
                received += part
        return parse_response(received)

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [pid for pid in map(int, children.read_text().split()) if is_python(pid)]

    def kill_worker(self) -> None:
        """Kill one worker with SIGKILL, as the kernel does when memory is short."""
        while True:
            try:
                return os.kill(random.choice(self.workers()), signal.SIGKILL)
            except (IndexError, ProcessLookupError):
                time.sleep(0.01)  # the master is replacing it

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to the master, wait for its end and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


def parse_response(received: bytes) -> Response:
    """Split the bytes of a response into status, headers and body."""
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    lowered = {name.lower(): value for name, value in headers.items()}
    return Response(int(status.split()[1]), lowered, body)


def is_python(pid: int) -> bool:
    """Return whether a process runs Python (and not, for example, PostgreSQL)."""
    try:
        return b"python" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def free_port() -> int:
    """Return a port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(configuration: str, port: int, **settings: str) -> subprocess.Popen[str]:
    """Start the service as `make run` or an operator does, with its output in a pipe."""
    return launch(configuration, port, settings, subprocess.PIPE)


def launch(
    configuration: str,
    port: int,
    settings: Mapping[str, str],
    log: int | IO[bytes],
    group: int | None = None,
) -> subprocess.Popen[str]:
    """Start the service with its output going to `log`; `group=0` makes a new process group."""
    command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / configuration)]
    environment = {
        "PATH": os.environ["PATH"],
        "PORT": str(port),
        "HARBORGUARD_LOG_LEVEL": "debug",
        **settings,
    }
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=log,
        process_group=group,
        stderr=subprocess.STDOUT,
    )


@contextmanager
def serving(configuration: str = PRODUCTION, **settings: str) -> Iterator[Service]:
    """Run a service during the block, which starts when it responds."""
    port, size = free_port(), int(settings.get("HARBORGUARD_WORKERS", "2"))
    with running(start(configuration, port, **settings), port, size) as service:
        yield service


@contextmanager
def running(process: subprocess.Popen[str], port: int, size: int = 2) -> Iterator[Service]:
    """Wait until a started service responds with all its workers, and stop it after the block."""
    service = Service(port, process, size=size)
    with process:
        listener = threading.Thread(target=collect_output, args=(service,))
        listener.start()
        try:
            await_health(service)
            wait_until(lambda: len(service.workers()) >= service.size)
            yield service
        finally:
            if process.poll() is None:
                process.terminate()
            listener.join(timeout=60)
            leaks.OUTPUTS.append(service.output)


def collect_output(service: Service) -> None:
    """Collect the output of the service, so that its pipe never fills up."""
    assert service.process.stdout is not None
    service.output.extend(service.process.stdout)


def await_health(service: Service) -> None:
    """Wait until the service responds; fail with its output if it does not."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and service.process.poll() is None:
        with suppress(OSError):
            if service.request("/api/health").status == 200:
                return
        time.sleep(0.05)
    raise AssertionError("".join(service.output))
