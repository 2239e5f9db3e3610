"""Embedded database: a PostgreSQL server that runs as a child process, for trials and tests."""

import fcntl
import hashlib
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

from harborguard.dev.programs import (
    ENVIRONMENT,
    EmbeddedServerError,
    accessible_programs,
    get_programs,
    process_options,
    run_program,
    shell_safe_programs,
)

_FALLBACK_DIRECTORY = Path("/var/lib/harborguard")
_FALLBACK_UID = 65534
# A group of the server's process alone, since other processes may also run as uid 65534. systemd's
# UIDS-GIDS.md lists it as unused, and a container with 65536 ids has it. It needs no name.
_PRIVATE_GID = 65527
_DATA = "postgres-18"
_START_TIMEOUT = 180  # seconds; crash recovery on a busy disk is slow
_SETTINGS = ("listen_addresses=", "unix_socket_permissions=0700", "max_connections=50")
_SETTINGS += ("io_method=sync", "jit=off", "timezone=UTC", "log_timezone=UTC")
# Segments in the data directory: other processes of the account can read those in /dev/shm.
_SETTINGS += ("dynamic_shared_memory_type=mmap",)
_NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True)
class Server:
    """A running server: libpq URIs of its database and its superuser.

    `is_owner` is True if this call started the server and will stop it.
    """

    url: str
    superuser_url: str
    is_owner: bool


@dataclass(frozen=True)
class _Cluster:
    """Locations of a database cluster, and the account that runs it."""

    data: Path
    sockets: Path
    account: pwd.struct_passwd
    programs: Path

    def url(self, role: str = "harborguard", database: str = "harborguard") -> str:
        host = quote(os.fsencode(self.sockets))
        # libpq would take a missing port from PGPORT.
        return f"postgresql://{role}@/{database}?host={host}&port=5432"

    def connection_error(self) -> str:
        """Return why this account cannot connect, or "" if it can."""
        return run_program([self.programs / "psql", "-Xc", "", self.url()], env=ENVIRONMENT)

    def is_ready(self) -> bool:
        """Return True if the server accepts connections, whether or not from this account."""
        return not run_program([self.programs / "pg_isready", "-d", self.url()], env=ENVIRONMENT)


@contextmanager
def running_server(
    state_dir: Path,
    *,
    durable: bool = True,
    shared_buffers: str = "64MB",
    sudo_uid: int | None = None,
) -> Iterator[Server]:
    """Yield the server of `state_dir`: a running one, or else a new one that stops at the end.

    The call that started a server stops it when its block ends, even if other calls share the
    server. The server also stops if the thread of that call ends.

    `state_dir` is created if it is missing; an existing one must be empty or have been created by
    this function. Only the account that runs the server can read it. Root runs the server as the
    owner of the checkout, else as `sudo_uid`, else as uid 65534, and stores the data in
    /var/lib/harborguard if that account cannot access `state_dir`. As uid 65534, the server has a
    group that no other process has: only root and the server can read the data and connect.

    Without `durable`, the server is faster, but a crash of the machine can destroy the data. Raise
    EmbeddedServerError if the server cannot run.
    """
    settings = (*_SETTINGS, f"shared_buffers={shared_buffers}", *(() if durable else _NOT_DURABLE))
    with ExitStack() as stack:
        try:
            cluster = _locate(state_dir.resolve(), sudo_uid)
            lock_path, log_path = (cluster.data.with_suffix(end) for end in (".lock", ".log"))
            # Only PostgreSQL's processes keep the lock. A worker that is forked inside the caller's
            # block must not inherit it.
            with _create(lock_path, cluster.account) as lock:
                if is_owner := _acquire(cluster, lock):
                    process = _start(cluster, lock, settings)
                    stack.callback(_stop, process, cluster.sockets, os.getpid())
            # PostgreSQL's processes hold the lock now. It is free again only if they have exited.
            with _create(lock_path, cluster.account) as lock:
                if is_owner and _acquire(cluster, lock):
                    log = log_path.read_text(errors="replace")[-500:].strip()
                    raise EmbeddedServerError(f"PostgreSQL did not start: {log}\nSee {log_path}.")
        except (OSError, KeyError) as error:
            message = f"The state directory {state_dir} cannot be used: {error}."
            raise EmbeddedServerError(message) from error
        yield Server(cluster.url(), cluster.url("postgres", "postgres"), is_owner)


def _locate(directory: Path, sudo_uid: int | None) -> _Cluster:
    """Choose the account and the directory of the cluster.

    The owner of an existing directory has precedence, so that all calls choose the same account.
    """
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    account, programs = pwd.getpwuid(os.geteuid()), get_programs()
    fallback = _FALLBACK_DIRECTORY / digest
    directory.parent.mkdir(parents=True, exist_ok=True)
    if account.pw_uid == 0:
        paths = [Path(__file__).parents[2]]
        paths += [fallback, fallback / _DATA, directory, directory / _DATA]
        owners = [path.stat().st_uid for path in paths if path.exists()]
        # Ascending precedence: the last known account is used.
        for uid in (_FALLBACK_UID, sudo_uid, *owners):
            with suppress(KeyError):  # a container may not know the owner of a mounted checkout
                account = pwd.getpwuid(uid) if uid else account
        if account.pw_uid == _FALLBACK_UID:
            account = pwd.struct_passwd((*account[:3], _PRIVATE_GID, *account[4:]))
        if run_program(["test", "-x", directory.parent], **process_options(account)):
            directory = fallback
            with suppress(FileExistsError):
                _FALLBACK_DIRECTORY.mkdir()
                _FALLBACK_DIRECTORY.chmod(0o755)  # regardless of root's umask
    _make_private(directory, account)
    sockets = directory / "s"
    # A socket's path has at most 107 bytes, and libpq splits a host at commas.
    if len(os.fsencode(sockets)) > 88 or "," in str(sockets):
        sockets = Path(f"/tmp/hgpg-{account.pw_uid}-{digest}")  # noqa: S108 - not from TMPDIR
    return _Cluster(directory / _DATA, sockets, account, programs)


def _make_private(directory: Path, account: pwd.struct_passwd) -> None:
    """Create a directory, or raise EmbeddedServerError if it exists and is not the account's.

    The directory of an account with the private group belongs to root and that group, so that
    other processes of the account cannot enter it.
    """
    with suppress(FileExistsError):
        directory.mkdir(0o700)
    owner, mode = (0, 0o770) if _has_private_group(account) else (account.pw_uid, 0o700)
    status = directory.lstat()
    is_private = (status.st_uid, status.st_gid) == (owner, account.pw_gid)
    is_own = is_private or status.st_uid == account.pw_uid
    # Root changes the owner of an empty directory only: the path may be /var by mistake.
    may_change_owner = os.geteuid() == status.st_uid == 0 and not any(directory.iterdir())
    if not (is_own or may_change_owner) or directory.is_symlink():
        raise EmbeddedServerError(
            f"{directory} is not owned by {account.pw_name}. "
            "Remove it, or set HARBORGUARD_STATE_DIR to another directory."
        )
    os.lchown(directory, owner, account.pw_gid)
    directory.chmod(mode)


def _has_private_group(account: pwd.struct_passwd) -> bool:
    return account.pw_gid == _PRIVATE_GID


def _create(path: Path, account: pwd.struct_passwd) -> TextIO:
    """Open an empty file for the account; raise OSError if it is a symbolic link."""
    # The account can create a link here. Root must not write to the file that the link names.
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    os.fchown(descriptor, account.pw_uid, account.pw_gid)
    return os.fdopen(descriptor, "w", encoding="utf-8")


def _acquire(cluster: _Cluster, lock: TextIO) -> bool:
    """Return True if this call gets the lock, or False if a running server accepts the account.

    Wait until one of them happens. Raise EmbeddedServerError if the server rejects the account.
    """
    error, was_ready, deadline = "", False, time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if not (error := cluster.connection_error()):
            return False
        # If the server was ready before and after a failed connection, it rejects the account.
        is_ready = cluster.is_ready()
        if was_ready and is_ready:
            break
        was_ready = is_ready
        time.sleep(0.02)
    raise EmbeddedServerError(
        f"The server of {cluster.data} rejects this account: {error}. "
        "Use the account that runs the server."
    )


def _start(cluster: _Cluster, lock: TextIO, settings: tuple[str, ...]) -> subprocess.Popen[Any]:
    data, account = cluster.data, cluster.account
    programs = accessible_programs(cluster.programs, account, data.with_name("programs"))
    if not (data / "harborguard.complete").exists():
        _initialize(cluster, programs, lock, ["--no-sync"] if "fsync=off" in settings else [])
    _make_private(cluster.sockets, account)
    # PostgreSQL would not start if another process now has the number in one of these files.
    (data / "postmaster.pid").unlink(missing_ok=True)
    (cluster.sockets / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
    options = [f"--{setting}" for setting in (*settings, *_write_access_rules(cluster))]
    command = [programs / "postgres", "-D", data, *options]
    with _create(data.with_suffix(".log"), account) as log:
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), log)  # nothing reads stdin
        return subprocess.Popen(command, **streams, **process_options(account, lock))  # noqa: S603


def _stop(process: subprocess.Popen[Any], sockets: Path, owner: int) -> None:
    # A worker forked in the caller's block runs this at its exit too; it must not stop the server.
    if process.poll() is None and os.getpid() == owner:
        process.send_signal(signal.SIGINT)
        process.wait()
        with suppress(OSError):
            sockets.rmdir()


def _write_access_rules(cluster: _Cluster) -> list[str]:
    """Write pg_hba and pg_ident files, and return the settings that name them and the sockets."""
    rules, names = cluster.data.with_suffix(".hba"), cluster.data.with_suffix(".ident")
    accounts = {pwd.getpwuid(os.geteuid()).pw_name}
    if not _has_private_group(cluster.account):
        accounts.add(cluster.account.pw_name)
    mapping = "".join(f'harborguard "{name}" all\n' for name in sorted(accounts))
    # Peer authentication protects the data even if the directory is opened to all accounts.
    for path, text in (rules, "local all all peer map=harborguard\n"), (names, mapping):
        with _create(path, cluster.account) as file:
            file.write(text)
    sockets = str(cluster.sockets).replace('"', '""')
    return [f'unix_socket_directories="{sockets}"', f"hba_file={rules}", f"ident_file={names}"]


def _initialize(cluster: _Cluster, programs: Path, lock: TextIO, options: list[str]) -> None:
    shutil.rmtree(cluster.data, ignore_errors=True)
    with shell_safe_programs(programs) as safe:
        initdb = [safe / "initdb", cluster.data, "-U", "postgres", "-A", "peer", *options]
        # The builtin provider sorts the same on every system and needs no installed locale.
        initdb += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        initdb += ["-E", "UTF8"]
        single = [safe / "postgres", "--single", "-D", cluster.data, "--exit_on_error=on"]
        sql = "CREATE ROLE harborguard LOGIN\nCREATE DATABASE harborguard OWNER harborguard\n"
        for command, text in (initdb, ""), ([*single, "postgres"], sql):
            if error := run_program(command, text, **process_options(cluster.account, lock)):
                raise EmbeddedServerError(f"The embedded database cannot be created: {error}.")
    # Written last: without it, the next start initializes the cluster again.
    _create(cluster.data / "harborguard.complete", cluster.account).close()
