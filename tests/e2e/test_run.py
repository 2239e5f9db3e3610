"""`make run`: a database of its own, demo data, a key that works, and nothing left behind."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service import LOCAL, ROOT, free_port, launch, serving, start
from tests.support.tenants import Tenants
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """A state directory that a root's server account can enter."""
    directory = Path(tempfile.mkdtemp(prefix="harborguard run "))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def postgres_of(state: Path) -> list[int]:
    """The PostgreSQL processes that serve from a state directory."""
    found = subprocess.run(["pgrep", "-f", f"{state}/postgres"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def test_it_works(state: Path) -> None:
    """The first start fills it; the printed curl answers; the second start keeps data and key."""
    settings = {"HARBORGUARD_STATE_DIR": str(state)}
    with serving(LOCAL, **settings) as service:
        [curl] = re.findall(r"^  (curl .*)$", "".join(service.said), re.MULTILINE)
        [key] = re.findall(r"hg_ak_[0-9a-f]{48}", curl)
        first = service.ask("/api/images?sort=name:asc&limit=200", {"X-API-Key": key}).json
        assert first["meta"]["total"] > 200
        assert {row["grade"] for row in first["data"]} == {"A", "B", "C", "D", None}
        if shutil.which("curl"):
            said = subprocess.run(curl, shell=True, capture_output=True, text=True).stdout
            assert said.startswith('{"data":[{"id":"img-')
        environment = {"PATH": os.environ["PATH"], **settings}
        command = [ROOT / ".venv/bin/harborguard", "key", "list", "--org", "demo"]
        listed = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True)
        assert key[:10] in listed.stdout, listed.stderr
        assert service.end(signal.SIGINT) == 0
    wait_until(lambda: not postgres_of(state))
    assert oct((state / "demo.key").stat().st_mode)[-3:] == "600"

    with serving(LOCAL, **settings) as service:
        assert key in "".join(service.said)
        again = service.ask("/api/images?sort=name:asc&limit=200", {"X-API-Key": key}).json
        assert again == first
        service.end(signal.SIGKILL)
    wait_until(lambda: not postgres_of(state))

    with serving(LOCAL, **settings) as service:
        assert service.ask("/api/images", {"X-API-Key": key}).status == 200
        service.process.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert service.ask("/api/images", {"X-API-Key": key}).status == 200
        assert service.end() == 0
    wait_until(lambda: not postgres_of(state))


def test_ctrl_c_ends_it_whenever_it_comes(state: Path) -> None:
    """A terminal signals the whole group, workers too, and a hasty hand does so again and again."""
    settings = {"HARBORGUARD_STATE_DIR": str(state)}
    for times in (1, 3, 3):
        port = free_port()
        with launch(LOCAL, port, settings, subprocess.PIPE, group=0) as process:
            assert process.stdout is not None
            while not process.stdout.readline().startswith("Serving."):
                assert process.poll() is None
            for _ in range(times):
                os.killpg(process.pid, signal.SIGINT)
                time.sleep(0.05)
            said, _ = process.communicate(timeout=60)
            assert process.returncode == 0, said
            assert "Traceback" not in said
        wait_until(lambda: not postgres_of(state))


def test_it_starts_below_a_folder_that_nobody_else_can_enter(tmp_path: Path) -> None:
    """Root's server runs as another account, which cannot: its data lies elsewhere then."""
    private = tmp_path / "private"
    private.mkdir(0o700)
    state = private / "state"
    elsewhere = Path("/var/lib/harborguard")
    before = set(elsewhere.iterdir()) if elsewhere.exists() else None
    try:
        with serving(LOCAL, HARBORGUARD_STATE_DIR=str(state)) as service:
            key = (state / "demo.key").read_text().strip()
            assert service.ask("/api/images", {"X-API-Key": key}).status == 200
            assert service.end() == 0
        assert oct((state / "demo.key").stat().st_mode)[-3:] == "600"
    finally:
        for made in set(elsewhere.glob("*")) - (before or set()):
            shutil.rmtree(made)
        if before is None and elsewhere.exists():
            elsewhere.rmdir()


def test_a_given_database_is_served_as_it_is(tenants: Tenants, database_url: str) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    with serving(LOCAL, DATABASE_URL=database_url) as service:
        assert service.ask("/api/images", tenants.acme.headers).json["meta"]["total"] == 1
        assert "hg_ak_..." in "".join(service.said)
        service.end()
    [(organizations,)] = tenants.acme.conn.execute("SELECT count(*) FROM organizations").fetchall()
    assert organizations == 2


def test_a_taken_port_is_told(state: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with start(LOCAL, port, HARBORGUARD_STATE_DIR=str(state)) as process:
            said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"port {port}: Address already in use; set PORT to another" in said
    assert "Traceback" not in said
