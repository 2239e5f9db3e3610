"""Run a command with a private PostgreSQL server whose programs are installed on this machine.

`python -m tests.tools.postgres_cluster PROGRAMS COMMAND ...`, where PROGRAMS is a directory such as
/usr/lib/postgresql/15/bin. The command finds the server's URL in HARBORGUARD_TEST_DATABASE_URL.
"""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Durability is of no use in a test, and costs most of its time.
SETTINGS = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses="]


@contextmanager
def running_cluster(programs: Path, *settings: str) -> Iterator[str]:
    """Run a server on a socket in a temporary directory and yield the URL of its superuser."""
    # initdb refuses to run as root; Debian's package creates the account "postgres".
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    identity: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    options = identity if os.geteuid() == 0 else {}
    home = Path(tempfile.mkdtemp(prefix="harborguard-cluster-"))
    os.chown(home, account.pw_uid, account.pw_gid)
    data, log = home / "data", home / "log"
    initdb = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
    control = [programs / "pg_ctl", "-D", data, "-w"]
    server_options = " ".join(
        ["-k", str(home), *(f"-c {setting}" for setting in (*SETTINGS, *settings))]
    )
    try:
        initdb += ["--locale=C.UTF-8", "-E", "UTF8"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=home, **options)
        start = [*control, "-l", log, "-o", server_options, "start"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, cwd=home, **options)
        try:
            yield f"postgresql:///postgres?host={home}&user=postgres"
        finally:
            stop = [*control, "-m", "immediate", "stop"]
            subprocess.run(stop, check=True, stdout=subprocess.DEVNULL, cwd=home, **options)
    finally:
        shutil.rmtree(home)


def main() -> int:
    """Run the command and return its exit status."""
    programs, command = Path(sys.argv[1]), sys.argv[2:]
    if not (programs / "postgres").exists():
        sys.exit(f"{programs} has no PostgreSQL server. On Debian: apt-get install postgresql-15")
    with running_cluster(programs) as url:
        environment = {**os.environ, "HARBORGUARD_TEST_DATABASE_URL": url}
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
