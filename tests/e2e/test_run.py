"""`make run` starts a private database, adds demo data and a key, and stops both at the end."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harborguard.config import Config
from harborguard.dev.server import describe_service
from harborguard.store.connection import Connection
from tests.support.service import LOCAL, ROOT, free_port, launch, serving, start
from tests.support.tenants import Tenants
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """Create a state directory that the account of root's database server can enter."""
    directory = Path(tempfile.mkdtemp(prefix="harborguard run "))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def postgres_of(state: Path) -> list[int]:
    """Return the PostgreSQL processes that use a state directory."""
    found = subprocess.run(["pgrep", "-f", f"{state}/postgres"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def test_run_started_again_keeps_demo_data_and_key(state: Path) -> None:
    settings = {"HARBORGUARD_STATE_DIR": str(state)}
    with serving(LOCAL, **settings) as service:
        [curl] = re.findall(r"^  (curl .*)$", "".join(service.output), re.MULTILINE)
        assert f"The demo key is stored in {state}/demo.key\n" in service.output
        assert f"API reference: http://127.0.0.1:{service.port}/api/docs\n" in service.output
        assert f"Page for a browser: http://127.0.0.1:{service.port}/\n" in service.output
        assert service.request("/api/docs").status == 200
        [key] = re.findall(r"hg_ak_[0-9a-f]{48}", curl)
        first = service.request("/api/images?sort=name:asc&limit=200", {"X-API-Key": key}).json
        assert first["meta"]["total"] > 200
        assert {row["grade"] for row in first["data"]} == {"A", "B", "C", "D", None}
        if shutil.which("curl"):
            body = subprocess.run(curl, shell=True, capture_output=True, text=True).stdout
            assert body.startswith('{"data":[{"id":"img-')
        environment = {"PATH": os.environ["PATH"], **settings}
        command = [ROOT / ".venv/bin/python", "-m", "harborguard", "key", "list", "--org", "demo"]
        listed = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True)
        assert key[:10] in listed.stdout, listed.stderr
        assert service.stop(signal.SIGINT) == 0
    wait_until(lambda: not postgres_of(state))
    assert oct((state / "demo.key").stat().st_mode)[-3:] == "600"

    with serving(LOCAL, **settings) as service:
        assert key in "".join(service.output)
        again = service.request("/api/images?sort=name:asc&limit=200", {"X-API-Key": key}).json
        assert again == first
        service.stop(signal.SIGKILL)
    wait_until(lambda: not postgres_of(state))

    with serving(LOCAL, **settings) as service:
        assert service.request("/api/images", {"X-API-Key": key}).status == 200
        service.process.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert service.request("/api/images", {"X-API-Key": key}).status == 200
        assert service.stop() == 0
    wait_until(lambda: not postgres_of(state))


def test_run_interrupted_by_ctrl_c_stops_cleanly(state: Path) -> None:
    """A terminal signals the whole process group, and a user may press Ctrl-C several times."""
    settings = {"HARBORGUARD_STATE_DIR": str(state)}
    for times in (1, 3, 3):
        port = free_port()
        with launch(LOCAL, port, settings, subprocess.PIPE, group=0) as process:
            assert process.stdout is not None
            while not process.stdout.readline().startswith("The service is ready."):
                assert process.poll() is None
            for _ in range(times):
                os.killpg(process.pid, signal.SIGINT)
                time.sleep(0.05)
            output, _ = process.communicate(timeout=60)
            assert process.returncode == 0, output
            assert "Traceback" not in output
        wait_until(lambda: not postgres_of(state))


def test_run_below_a_directory_of_mode_0700_starts(tmp_path: Path) -> None:
    """Root's database server runs as another account, so its data is stored elsewhere."""
    private = tmp_path / "private"
    private.mkdir(0o700)
    state = private / "state"
    elsewhere = Path("/var/lib/harborguard")
    before = set(elsewhere.iterdir()) if elsewhere.exists() else None
    try:
        with serving(LOCAL, HARBORGUARD_STATE_DIR=str(state)) as service:
            key = (state / "demo.key").read_text().strip()
            assert service.request("/api/images", {"X-API-Key": key}).status == 200
            assert service.stop() == 0
        assert oct((state / "demo.key").stat().st_mode)[-3:] == "600"
    finally:
        for made in set(elsewhere.glob("*")) - (before or set()):
            shutil.rmtree(made)
        if before is None and elsewhere.exists():
            elsewhere.rmdir()


def test_run_has_a_database_connection_for_each_of_its_four_threads(
    tenants: Tenants, database_url: str, conn: Connection
) -> None:
    settings = {"DATABASE_URL": database_url, "HARBORGUARD_WORKERS": "1"}
    blocked = """
        SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
        WHERE datname = current_database() AND relation = 'images'::regclass AND NOT granted
    """
    with serving(LOCAL, **settings) as service, ThreadPoolExecutor(4) as threads:
        with conn.transaction():
            conn.execute("LOCK TABLE images")
            responses = [
                threads.submit(service.request, "/api/images/x", tenants.acme.headers)
                for _ in range(4)
            ]
            wait_until(lambda: conn.execute(blocked).fetchone() == (4,))
        assert [response.result().status for response in responses] == [404] * 4


def test_run_with_database_url_uses_that_database_unchanged(
    tenants: Tenants, database_url: str
) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    with serving(LOCAL, DATABASE_URL=database_url) as service:
        assert service.request("/api/images", tenants.acme.headers).json["meta"]["total"] == 1
        assert "hg_ak_..." in "".join(service.output)
        assert "demo key" not in "".join(service.output)
        service.stop()
    [(organizations,)] = tenants.acme.conn.execute("SELECT count(*) FROM organizations").fetchall()
    assert organizations == 2


@pytest.mark.parametrize(
    ("bind", "request_line"),
    [
        ("", 'curl -s -H "X-API-Key: KEY" "http://127.0.0.1:8000/api/images?limit=5"'),
        ("[::1]:90,unix:/x", 'curl -s -H "X-API-Key: KEY" "http://[::1]:90/api/images?limit=5"'),
        (
            "unix:/run/images.sock",
            "curl -s --unix-socket /run/images.sock"
            ' -H "X-API-Key: KEY" "http://localhost/api/images?limit=5"',
        ),
    ],
)
def test_first_request_is_sent_to_the_first_bind_address(bind: str, request_line: str) -> None:
    assert f"  {request_line}\n" in describe_service(Config(bind=bind), "KEY")


def test_run_with_a_taken_port_exits_and_names_it(state: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with start(LOCAL, port, HARBORGUARD_STATE_DIR=str(state)) as process:
            output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use. Set PORT or" in output
    assert "Traceback" not in output
