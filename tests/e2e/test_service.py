"""The service as operators run it: gunicorn with deploy/gunicorn.conf.py."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from harborguard.store.connection import Connection
from harborguard.store.migrations import read_migrations
from tests.support.cookies import SECRET, chunk, make_claims, make_cookie_header, mint_v4
from tests.support.fault_injection import short_directory
from tests.support.service import (
    LOCAL,
    PRODUCTION,
    ROOT,
    Service,
    free_port,
    running,
    serving,
    start,
)
from tests.support.tenants import Tenants
from tests.support.waiting import wait_until


def test_service_started_lists_images_and_stops_cleanly(
    tenants: Tenants, database_url: str
) -> None:
    image_id = tenants.acme.add_image("ghcr.io/acme/api", 31)

    with serving(DATABASE_URL=database_url) as service:
        response = service.request(
            "/api/images?grade=A%2CB&sort=riskScore%3Adesc", tenants.acme.headers
        )

        assert response.status == 200
        assert [row["id"] for row in response.json["data"]] == [image_id]
        assert service.request("/api/ready").json == {"data": {"status": "ready"}}
        assert len(service.workers()) == 2
        assert service.stop() == 0


def test_session_cookie_of_9_kb_in_chunks_is_accepted(tenants: Tenants, database_url: str) -> None:
    claims = make_claims(time.time(), email=tenants.acme.email, picture="x" * 6000)
    cookie = make_cookie_header(chunk("__Secure-next-auth.session-token", mint_v4(claims)))
    assert len(cookie) > 8190

    with serving(DATABASE_URL=database_url, NEXTAUTH_SECRET=f"{SECRET},{SECRET[::-1]}") as service:
        assert service.request("/api/images", {"Cookie": cookie}).status == 200
        assert service.request("/api/images", {"Cookie": cookie[:-9]}).status == 401
        longest = "%F0%9F%98%80" * 200
        response = service.request(f"/api/images?search={longest}", {"Cookie": cookie})
        assert (response.status, response.json["data"]) == (200, [])


def test_headers_that_set_the_script_name_or_prefix_are_ignored(
    tenants: Tenants, database_url: str
) -> None:
    with serving(DATABASE_URL=database_url) as service:
        for headers in (
            {"SCRIPT_NAME": "/api"},
            {"Script-Name": "/api"},
            {"PATH_INFO": "/api/health"},
        ):
            assert service.request("/api/images", {**tenants.acme.headers, **headers}).status == 200
        forwarded = {"X-Forwarded-Prefix": "/evil", "X-Forwarded-Host": "evil.test"}
        response = service.request("/api/images", {**tenants.acme.headers, **forwarded})
        assert response.json["links"] == {"self": "/api/images?page=1&limit=50"}


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"GET /api/images HTTP/1.1\r\nHost: x\r\nX-API-Key: " + b"k" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /api/images?search=" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"POST /api/images HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: odd\r\n\r\n", 501),
        (b"GET /api/images HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n", 400),
        (b"GET /api/images HTTP/1.1\r\nHost: a..b\r\nConnection: close\r\n\r\n", 400),
    ],
    ids=["nul", "nonsense", "version", "header", "line", "coding", "length", "host"],
)  # fmt: skip
def test_malformed_request_returns_an_error_in_the_envelope(
    shared_service: Service, request_bytes: bytes, status: int
) -> None:
    response = shared_service.send(request_bytes)
    assert response.status in {400, status}
    assert set(response.json) == {"error"}
    assert set(response.json["error"]) == {"code", "message"}


@pytest.fixture(scope="module")
def shared_service(database_url: str) -> Iterator[Service]:
    """Run one service for the tests that only send requests."""
    with serving(DATABASE_URL=database_url) as service:
        yield service


def test_service_with_an_older_schema_exits_before_it_listens(
    conn: Connection, database_url: str
) -> None:
    last = len(read_migrations())
    conn.execute("UPDATE schema_migrations SET number = -number WHERE number = %s", (last,))
    try:
        with start(PRODUCTION, free_port(), DATABASE_URL=database_url) as process:
            output, _ = process.communicate(timeout=30)
    finally:
        conn.execute("UPDATE schema_migrations SET number = -number WHERE number = %s", (-last,))
    assert process.returncode == 1
    assert "older than this release. Run: harborguard migrate" in output
    assert "Traceback" not in output


def test_service_with_a_newer_schema_logs_a_warning_and_serves(
    conn: Connection, database_url: str
) -> None:
    conn.execute("INSERT INTO schema_migrations (number, name, checksum) VALUES (9999, 'x', 'x')")
    try:
        with serving(DATABASE_URL=database_url) as service:
            assert service.request("/api/ready").status == 200
            service.stop()
    finally:
        conn.execute("DELETE FROM schema_migrations WHERE number = 9999")
    assert "schema is newer than this release" in "".join(service.output)


def test_service_without_a_database_returns_503(tenants: Tenants) -> None:
    with serving(DATABASE_URL="host=/nowhere", HARBORGUARD_POOL_TIMEOUT="0.3") as service:
        response = service.request("/api/images", tenants.acme.headers)
        assert response.status == 503
        assert response.headers["retry-after"] == "2"
        assert response.json["error"]["code"] == "SERVICE_UNAVAILABLE"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"NEXTAUTH_SECRET": "short"}, "NEXTAUTH_SECRET"),
        ({"HARBORGUARD_WORKERS": "none"}, "HARBORGUARD_WORKERS"),
        ({}, "DATABASE_URL"),
    ],
)
def test_service_with_an_invalid_setting_exits_and_names_it(
    database_url: str, settings: dict[str, str], reason: str
) -> None:
    given = {"DATABASE_URL": database_url, **settings} if settings else {}
    with start(PRODUCTION, free_port(), **given) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert reason in output
    assert "Traceback" not in output


# Signals the first worker between fork and the hook `post_fork`.
SIGNAL_AT_FORK = """
import os, signal
from pathlib import Path
from runpy import run_path
production = run_path({path!r})
globals().update({{k: v for k, v in production.items() if not k.startswith("__")}})

def post_fork(server, worker):
    marker = Path({marker!r})
    if not marker.exists():
        marker.write_text(str(os.getpid()))
        os.kill(os.getpid(), {number})
    production["post_fork"](server, worker)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_worker_with_a_signal_during_fork_exits(
    database_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    """Otherwise a stop at that moment waits for the worker until gunicorn kills it."""
    marker, configuration = tmp_path / "pid", tmp_path / "signal_at_fork.conf.py"
    configuration.write_text(
        SIGNAL_AT_FORK.format(path=str(ROOT / PRODUCTION), marker=str(marker), number=int(number))
    )
    with serving(str(configuration), DATABASE_URL=database_url) as service:
        wait_until(lambda: marker.exists() and not exists(int(marker.read_text())))
        assert service.request("/api/ready").status == 200
        assert service.stop() == 0


@pytest.mark.parametrize("configuration", [PRODUCTION, LOCAL])
def test_unix_socket_is_open_to_its_owner_and_group_only(
    database_url: str, configuration: str
) -> None:
    with short_directory() as directory:
        path = directory / "harborguard.sock"
        port = free_port()
        bind = f"127.0.0.1:{port},unix:{path}"
        process = start(configuration, port, DATABASE_URL=database_url, HARBORGUARD_BIND=bind)
        with running(process, port) as service:
            status = path.stat()
            assert stat.filemode(status.st_mode) == "srw-rw----"
            assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
            service.process.send_signal(signal.SIGHUP)
            wait_until(lambda: "Hang up" in "".join(service.output))
            assert stat.filemode(path.stat().st_mode) == "srw-rw----"


LOAD_TWICE = """
from runpy import run_path
from gunicorn.arbiter import Arbiter
from gunicorn.http.wsgi import Response
original = Response.write, Arbiter.spawn_worker
run_path("deploy/gunicorn.conf.py")
patched = Response.write, Arbiter.spawn_worker
run_path("deploy/gunicorn.conf.py")
print(original[0] is not patched[0], (Response.write, Arbiter.spawn_worker) == patched)
"""


def test_configuration_loaded_again_patches_nothing_twice(database_url: str) -> None:
    """A reload reads it again: one more layer each time would end in a RecursionError."""
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": database_url}
    command = [sys.executable, "-c", LOAD_TWICE]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == "True True\n", done.stderr


def test_workers_of_a_killed_master_exit(database_url: str) -> None:
    with serving(DATABASE_URL=database_url) as service:
        workers = service.workers()
        service.stop(signal.SIGKILL)
        wait_until(lambda: not any(map(exists, workers)))


def exists(pid: int) -> bool:
    """Return whether a process is alive."""
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
