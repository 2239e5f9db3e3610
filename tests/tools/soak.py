"""`make soak`: every fault in full, one after the other; writes docs/reliability.md as it goes.

Takes about three quarters of an hour, all of it on this machine. Names of rows as arguments run those alone and
keep what the document has of the others.
"""

import os
import platform
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime

from tests.support import fault_scenarios as scenarios
from tests.support.fault_injection import program
from tests.support.fault_scenarios import Outcome
from tests.support.service import ROOT

DOCUMENT = ROOT / "docs/reliability.md"
Row = Callable[[], Outcome | list[Outcome]]
ROWS: dict[str, tuple[str, Row]] = {
    "D1": (
        "the database stops: 503 within 2.5 s, back within 2 s, no restart",
        lambda: scenarios.database_stops(50),
    ),
    "D2": (
        "its connections are killed: at most 0.1 % 503, no 500",
        lambda: scenarios.backends_die(60),
    ),
    "D3": (
        "it is silent: 503 within 5 s, back within 3 s, no thread stuck",
        lambda: scenarios.database_is_silent(60),
    ),
    "D5": (
        "a replica is promoted: back within 5 s",
        scenarios.replica_is_promoted,
    ),
    "D7": (
        "more callers than connections or workers: refused within 2.5 s, 80 % of the throughput",
        lambda: [
            scenarios.more_callers_than_connections(20),
            scenarios.more_callers_than_workers(20),
        ],
    ),
    "D10": (
        "migrations race and are killed: none fails, no invalid index, reads go on",
        lambda: scenarios.migrations_race(50, 100),
    ),
    "D11": (
        "a pooler in transaction mode: the tests of the API are green",
        lambda: scenarios.through_a_pooler(["tests/api"]),
    ),
    "P1": (
        "workers are killed: no failed read",
        lambda: scenarios.workers_are_killed(200),
    ),
    "P2": (
        "HUP, replaced workers, restarts: no failed request",
        lambda: [scenarios.workers_are_replaced(300), scenarios.service_restarts(240)],
    ),
    "H1": (
        "odd requests: every error in the envelope",
        scenarios.odd_requests,
    ),
    "H8": (
        "slow clients: the good client's p99 below twice its normal, no errors",
        lambda: scenarios.slow_clients(20),
    ),
    "P4": (
        "many requests: under 5 MB a worker, descriptors and connections flat",
        lambda: scenarios.memory_is_flat(200_000),
    ),
}
HEADER = """# What was seen when things broke

Written by `make soak`: real PostgreSQL, gunicorn and nginx with the files of `deploy/`, all on the
machine that a row names, with the load beside them. Small versions run in `make test`.

| row | promise | date, machine | done | found | kept |
|---|---|---|---|---|---|
"""


def machine() -> str:
    """Where this runs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GB, Python {platform.python_version()}"


def measure(promise: str, row: Row) -> list[str]:
    """A row's lines; a fault of the test itself is told as what it is."""
    try:
        found = row()
    except Exception:
        traceback.print_exc()
        found = Outcome("broken off", traceback.format_exc().splitlines()[-1], is_kept=False)
    when = f"{datetime.now(UTC):%Y-%m-%d}, {machine()}"
    return [
        f"{promise} | {when} | {one.did} | {one.found.replace('|', '/')} | "
        f"{'yes' if one.is_kept else '**no**'} |"
        for one in (found if isinstance(found, list) else [found])
    ]


def read() -> dict[str, list[str]]:
    """The lines that the document has, by row."""
    lines: dict[str, list[str]] = {}
    if DOCUMENT.exists():
        for name, rest in re.findall(r"^\| (\w+) \| (.*)$", DOCUMENT.read_text(), re.MULTILINE):
            if name in ROWS:
                lines.setdefault(name, []).append(rest)
    return lines


def write(lines: dict[str, list[str]]) -> None:
    """The document, with what is known so far."""
    table = [f"| {name} | {line}" for name in ROWS for line in lines.get(name, [])]
    DOCUMENT.write_text(HEADER + "\n".join(table) + "\n", encoding="utf-8")


def main() -> None:
    """Runs the rows that are named, or all."""
    program("postgres")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended then too
    are_kept = True
    for name in sys.argv[1:] or ROWS:
        promise, row = ROWS[name]
        started = time.monotonic()
        found = measure(promise, row)
        lines = read() | {name: found}
        write(lines)
        are_kept &= not any("**no**" in line for line in lines[name])
        for line in lines[name]:
            print(f"{name} ({time.monotonic() - started:.0f} s): {line}", flush=True)
    sys.exit(not are_kept)


if __name__ == "__main__":
    main()
