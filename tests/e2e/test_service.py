"""The service as operators run it: gunicorn with the shipped configuration."""

import os
import signal
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
from tests.support.service import PRODUCTION, ROOT, Service, free_port, serving, start
from tests.support.tenants import Tenants
from tests.support.waiting import wait_until


def test_it_works(tenants: Tenants, database_url: str) -> None:
    image_id = tenants.acme.add_image("ghcr.io/acme/api", 31)

    with serving(DATABASE_URL=database_url) as service:
        answer = service.ask("/api/images?grade=A%2CB&sort=riskScore%3Adesc", tenants.acme.headers)

        assert answer.status == 200
        assert [row["id"] for row in answer.json["data"]] == [image_id]
        assert service.ask("/api/ready").json == {"data": {"status": "ready"}}
        assert len(service.workers()) == 2
        assert service.end() == 0


def test_a_real_chunked_session_cookie_comes_through(tenants: Tenants, database_url: str) -> None:
    claims = make_claims(time.time(), email=tenants.acme.email, picture="x" * 6000)
    cookie = make_cookie_header(chunk("__Secure-next-auth.session-token", mint_v4(claims)))
    assert len(cookie) > 8190

    with serving(DATABASE_URL=database_url, NEXTAUTH_SECRET=f"{SECRET},{SECRET[::-1]}") as service:
        assert service.ask("/api/images", {"Cookie": cookie}).status == 200
        assert service.ask("/api/images", {"Cookie": cookie[:-9]}).status == 401
        longest = "%F0%9F%98%80" * 200
        answer = service.ask(f"/api/images?search={longest}", {"Cookie": cookie})
        assert (answer.status, answer.json["data"]) == (200, [])


def test_a_client_cannot_move_the_application(tenants: Tenants, database_url: str) -> None:
    with serving(DATABASE_URL=database_url) as service:
        for headers in (
            {"SCRIPT_NAME": "/api"},
            {"Script-Name": "/api"},
            {"PATH_INFO": "/api/health"},
        ):
            assert service.ask("/api/images", {**tenants.acme.headers, **headers}).status == 200
        forwarded = {"X-Forwarded-Prefix": "/evil", "X-Forwarded-Host": "evil.test"}
        answer = service.ask("/api/images", {**tenants.acme.headers, **forwarded})
        assert answer.json["links"] == {"self": "/api/images?page=1&limit=50"}


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
    ],
    ids=["nul", "nonsense", "version", "header", "line", "coding", "length"],
)  # fmt: skip
def test_what_gunicorn_refuses_is_in_the_envelope(
    shared_service: Service, request_bytes: bytes, status: int
) -> None:
    answer = shared_service.send(request_bytes)
    assert answer.status in {400, status}
    assert set(answer.json) == {"error"}
    assert set(answer.json["error"]) == {"code", "message"}


@pytest.fixture(scope="module")
def shared_service(database_url: str) -> Iterator[Service]:
    """One service for the tests that only ask."""
    with serving(DATABASE_URL=database_url) as service:
        yield service


def test_an_older_schema_is_refused_before_anything_listens(
    conn: Connection, database_url: str
) -> None:
    last = len(read_migrations())
    conn.execute("UPDATE schema_migrations SET number = -number WHERE number = %s", (last,))
    try:
        with start(PRODUCTION, free_port(), DATABASE_URL=database_url) as process:
            said, _ = process.communicate(timeout=30)
    finally:
        conn.execute("UPDATE schema_migrations SET number = -number WHERE number = %s", (-last,))
    assert process.returncode == 1
    assert "older than this release; run: harborguard migrate" in said
    assert "Traceback" not in said


def test_a_newer_schema_is_served_with_a_warning(conn: Connection, database_url: str) -> None:
    conn.execute("INSERT INTO schema_migrations (number, name, checksum) VALUES (9999, 'x', 'x')")
    try:
        with serving(DATABASE_URL=database_url) as service:
            assert service.ask("/api/ready").status == 200
            service.end()
    finally:
        conn.execute("DELETE FROM schema_migrations WHERE number = 9999")
    assert "newer than this release" in "".join(service.said)


def test_without_a_database_it_serves_refusals(tenants: Tenants) -> None:
    with serving(DATABASE_URL="host=/nowhere", HARBORGUARD_POOL_TIMEOUT="0.3") as service:
        answer = service.ask("/api/images", tenants.acme.headers)
        assert answer.status == 503
        assert answer.headers["retry-after"] == "2"
        assert answer.json["error"]["code"] == "SERVICE_UNAVAILABLE"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"NEXTAUTH_SECRET": "short"}, "NEXTAUTH_SECRET"),
        ({"HARBORGUARD_WORKERS": "none"}, "HARBORGUARD_WORKERS"),
        ({}, "DATABASE_URL"),
    ],
)
def test_a_bad_setting_stops_it_with_a_reason(
    database_url: str, settings: dict[str, str], reason: str
) -> None:
    given = {"DATABASE_URL": database_url, **settings} if settings else {}
    with start(PRODUCTION, free_port(), **given) as process:
        said, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert reason in said
    assert "Traceback" not in said


HASTY = """
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
def test_a_worker_that_is_told_to_end_at_its_birth_does(
    database_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    """Whoever stops the service just then would wait for it until it is killed."""
    marker, configuration = tmp_path / "pid", tmp_path / "hasty.conf.py"
    configuration.write_text(
        HASTY.format(path=str(ROOT / PRODUCTION), marker=str(marker), number=int(number))
    )
    with serving(str(configuration), DATABASE_URL=database_url) as service:
        wait_until(lambda: marker.exists() and not exists(int(marker.read_text())))
        assert service.ask("/api/ready").status == 200
        assert service.end() == 0


AGAIN = """
from runpy import run_path
from gunicorn.arbiter import Arbiter
from gunicorn.http.wsgi import Response
theirs = Response.write, Arbiter.spawn_worker
for _ in range(3):
    run_path("deploy/gunicorn.conf.py")
print((Response.write.original, Arbiter.spawn_worker.original) == theirs)
"""


def test_a_reload_adds_nothing_to_the_one_before(database_url: str) -> None:
    """It reads the configuration again: a layer each time would end in a RecursionError."""
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": database_url}
    command = [sys.executable, "-c", AGAIN]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_workers_end_with_a_killed_master(database_url: str) -> None:
    with serving(DATABASE_URL=database_url) as service:
        workers = service.workers()
        service.end(signal.SIGKILL)
        wait_until(lambda: not any(map(exists, workers)))


def exists(pid: int) -> bool:
    """Whether a process is alive."""
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
