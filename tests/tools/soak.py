"""Run the fault scenarios in full and write docs/reliability.md: `make soak`.

All take about 45 minutes on an otherwise idle machine. With names of scenarios as arguments, only
these run, and the document keeps the sections of the others.
"""

import os
import platform
import re
import signal
import sys
import textwrap
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime

from tests.support import fault_scenarios as scenarios
from tests.support.fault_injection import program
from tests.support.fault_scenarios import Outcome
from tests.support.service import ROOT

DOCUMENT = ROOT / "docs/reliability.md"
Scenario = Callable[[], Outcome | list[Outcome]]
# The requirement and the scenario.
SCENARIOS: dict[str, tuple[str, Scenario]] = {
    "D1": (
        "The database stops: 503 within 2.5 s, recovery within 2 s, no restart",
        lambda: scenarios.database_stops(50),
    ),
    "D2": (
        "Database connections are killed: at most 0.1 % 503, no 500",
        lambda: scenarios.backends_die(60),
    ),
    "D3": (
        "The database stops responding: 503 within 5 s, recovery within 3 s, no stuck thread",
        lambda: scenarios.database_is_silent(60),
    ),
    "D5": (
        "A replica is promoted: recovery within 5 s",
        scenarios.replica_is_promoted,
    ),
    "D7": (
        "More clients than connections or workers: 503 within 2.5 s, 80 % throughput",
        lambda: [
            scenarios.more_clients_than_connections(20),
            scenarios.more_clients_than_workers(20),
        ],
    ),
    "D10": (
        "Migrations run at once or are killed: no failure, no invalid index, no failed read",
        lambda: scenarios.migrations_race(50, 100),
    ),
    "D11": (
        "A pooler in transaction mode: the API tests pass",
        lambda: scenarios.through_a_pooler(["tests/api"]),
    ),
    "D12": (
        "Prune is killed: exact counters, nothing half deleted, no failed read",
        lambda: scenarios.prune_is_killed(50),
    ),
    "D13": (
        "`org delete` is killed: exact counters, nothing half deleted, nothing left at the end",
        lambda: scenarios.org_deletions_are_killed(50, 3000),
    ),
    "P1": (
        "Workers are killed: no failed read",
        lambda: scenarios.workers_are_killed(200),
    ),
    "P2": (
        "Reloads, replaced workers and restarts: no failed request",
        lambda: [scenarios.workers_are_replaced(300), scenarios.service_restarts(240)],
    ),
    "H1": (
        "Malformed requests: every error is in the envelope",
        scenarios.malformed_requests,
    ),
    "H8": (
        "Slow clients: p99 of a normal client at most doubles, no errors",
        lambda: scenarios.slow_clients(20),
    ),
    "C1": (
        "Changes are polled while writers are killed: the copy equals the list",
        lambda: scenarios.changes_are_polled(1000),
    ),
    "P4": (
        "Many requests: under 5 MB more per worker, constant descriptors and connections",
        lambda: scenarios.memory_is_flat(200_000),
    ),
}
HEADER = """# Reliability measurements

`make soak` writes this document. It runs PostgreSQL, gunicorn and nginx with the files of `deploy/`
and the load on one machine. `make test` runs small versions of the same scenarios.
"""


def machine() -> str:
    """Describe this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GB, Python {platform.python_version()}"


def run_scenario(scenario: Scenario) -> list[Outcome]:
    """Run a scenario; an exception becomes an outcome that fails."""
    try:
        outcomes = scenario()
    except Exception:
        traceback.print_exc()
        return [Outcome("aborted", traceback.format_exc().splitlines()[-1], passed=False)]
    return outcomes if isinstance(outcomes, list) else [outcomes]


def format_section(name: str, requirement: str, outcomes: list[Outcome]) -> str:
    """Return the section of a scenario: requirement, date, machine and outcomes."""
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    lines = [f"## {name}: {requirement}", "", f"{day}, {machine()}", ""]
    for outcome in outcomes:
        verdict = "Passed" if outcome.passed else "**Failed**"
        item = f"- {verdict}: {outcome.action}. Result: {outcome.observed}."
        lines += textwrap.wrap(item, 100, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join([*lines, ""])


def read_sections() -> dict[str, str]:
    """Return the sections that the document has, by scenario."""
    if not DOCUMENT.exists():
        return {}
    parts = re.split(r"^(?=## )", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = {part.partition(":")[0].removeprefix("## "): part.strip() + "\n" for part in parts[1:]}
    return {name: section for name, section in named.items() if name in SCENARIOS}


def write_sections(sections: dict[str, str]) -> None:
    """Write the document with the sections known so far, in the order of the scenarios."""
    known = [sections[name] for name in SCENARIOS if name in sections]
    DOCUMENT.write_text("\n".join([HEADER, *known]), encoding="utf-8")


def main() -> None:
    """Run the scenarios that are named as arguments, or all."""
    program("postgres")
    # SIGTERM raises SystemExit, so that the servers of a scenario are stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    all_passed = True
    for name in sys.argv[1:] or SCENARIOS:
        requirement, scenario = SCENARIOS[name]
        started = time.monotonic()
        outcomes = run_scenario(scenario)
        section = format_section(name, requirement, outcomes)
        write_sections(read_sections() | {name: section})
        all_passed &= all(outcome.passed for outcome in outcomes)
        print(f"{section}({time.monotonic() - started:.0f} s)\n", flush=True)
    sys.exit(not all_passed)


if __name__ == "__main__":
    main()
