"""The figures of a run, their required values, and the Markdown of docs/performance.md."""

import math
import platform
import shutil
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.tools.bench.churn import FINDINGS, FIRST, IMAGES, LAST, Space
from tests.tools.bench.drive import LoadResult
from tests.tools.bench.exports import Exports
from tests.tools.bench.load import SIZES
from tests.tools.bench.recording import RecordingCost

DEFAULT_PAGE = "default page"
UNCHANGED = "default page, unchanged"
STATIC = "static, same bytes"
BY_RISK = "grade=A,B&sort=riskScore:desc"
FIRST_CHANGES = "changes, first page"
LAST_CHANGES = "changes, last page"
LOOKUP = "lookup of a tag"


class Case(NamedTuple):
    """A repeated request: its query, the size of its organization, the number of connections."""

    query: str
    size: str
    connections: int


@dataclass(frozen=True)
class Measurements:
    """The medians of a run.

    `http` are the loads, `sql` the milliseconds of a list, `older_sql` the same on PostgreSQL 15,
    `transactions` what pgbench does per second by number of clients, `memory` is in MiB.
    `space` is what scans need on disk. `exports` are exports of
    all images.
    """

    http: dict[Case, LoadResult]
    sql: dict[str, float]
    older_sql: dict[str, float]
    transactions: dict[int, float]
    memory: float
    recording: RecordingCost
    space: Space
    exports: Exports


@dataclass(frozen=True)
class Figure:
    """A measured value with the least (`at_least`) or the greatest value that is required."""

    name: str
    value: float
    required: float
    at_least: bool

    @property
    def requirement(self) -> str:
        """Return the required value as text."""
        return f"at {'least' if self.at_least else 'most'} {self.required:.3g}"

    @property
    def is_met(self) -> bool:
        """Return whether the measured value is as required."""
        return self.value >= self.required if self.at_least else self.value <= self.required


def last_page() -> int:
    """Return the number of the last page of the largest organization."""
    return SIZES["1M"] // 50


def find_missed(measured: Measurements) -> list[Figure]:
    """Return the figures that miss their required values."""
    return [figure for figure in make_figures(measured) if not figure.is_met]


def make_figures(measured: Measurements) -> list[Figure]:
    """Return all figures that have a required value."""
    return [*_ratio_figures(measured), *_time_figures(measured.sql), *_cost_figures(measured)]


def _ratio_figures(measured: Measurements) -> list[Figure]:
    def rate(query: str, size: str, connections: int = 8) -> float:
        return measured.http[Case(query, size, connections)].rate

    one, eight = rate(DEFAULT_PAGE, "10k", 1), rate(DEFAULT_PAGE, "10k")
    first = rate(DEFAULT_PAGE, "1M")
    static = {connections: rate(STATIC, "10k", connections) for connections in (1, 8)}
    ratios = [
        ("1M over 1k, default page", first / rate(DEFAULT_PAGE, "1k"), 0.75),
        (f"`{BY_RISK}`, 1M over 10k", rate(BY_RISK, "1M") / rate(BY_RISK, "10k"), 0.5),
        ("last page over first, 1M", rate(f"page={last_page()}", "1M") / first, 0.5),
        ("share of static, 1 connection", one / static[1], 0.27),
        ("share of static, 8 connections", eight / static[8], 0.33),
        ("share of pgbench, 1 connection", one / measured.transactions[1], 0.12),
        ("share of pgbench, 8 connections", eight / measured.transactions[8], 0.09),
        ("unchanged page over full page, 10k", rate(UNCHANGED, "10k") / eight, 1.25),
        (f"{LOOKUP} over default page, 1M", rate(LOOKUP, "1M") / first, 1),
        (f"{FIRST_CHANGES} over default page, 1M", rate(FIRST_CHANGES, "1M") / first, 1 / 1.5),
        (f"{LAST_CHANGES} over default page, 1M", rate(LAST_CHANGES, "1M") / first, 1 / 1.5),
        *(
            (f"export of 1M images as {name}, thousand rows/s", rows / 1000, 100)
            for name, rows in measured.exports.rates.items()
        ),
    ]
    return [Figure(name, value, required, at_least=True) for name, value, required in ratios]


def _time_figures(sql: dict[str, float]) -> list[Figure]:
    times = [
        ("SQL, first page at 1M, ms", sql["first page, 1M"], 1),
        ("SQL, last page at 1M, ms", sql["last page, 1M"], 1.5),
        ("SQL, filtered page at 1M, ms", sql["filtered, 1M"], 3),
        ("SQL, middle page at 1M, ms", sql["middle page, 1M"], 60),
        ("search at 100k, the slower term, ms", _slower_search(sql, "100k"), 20),
        ("search at 1M, rare term, ms", sql["search, rare, 1M"], 25),
        ("search at 1M, medium term, ms", sql["search, medium, 1M"], 100),
        ("search at 1M, common term, ms", sql["search, common, 1M"], 170),
        *(
            (
                f"search at {size}, {kind} term, all images rescanned over before",
                sql[f"search, {kind}, {size}, rescanned"] / sql[f"search, {kind}, {size}"],
                2,
            )
            for size in ("100k", "1M")
            for kind in ("rare", "medium", "common")
        ),
    ]
    return [Figure(name, value, required, at_least=False) for name, value, required in times]


def _slower_search(sql: dict[str, float], size: str) -> float:
    return max(sql[f"search, rare, {size}"], sql[f"search, common, {size}"])


def _cost_figures(measured: Measurements) -> list[Figure]:
    load = measured.http[Case(DEFAULT_PAGE, "10k", 8)]
    costs = [
        ("p99 over p50, 8 connections, 10k", load.p99 / load.p50, 4),
        ("memory of master and 2 workers after load (PSS), MiB", measured.memory, 85),
        ("recording 500 images with counters over without", measured.recording.counter_ratio, 1.5),
        (f"database size, round {LAST} of scans over round {FIRST}", measured.space.growth, 1.3),
        ("memory that exports of 1M images add (PSS), MiB", measured.exports.memory, 20),
        (
            "p99 of another organization beside an export over without",
            measured.exports.p99_ratio,
            3,
        ),
    ]
    return [Figure(name, value, required, at_least=False) for name, value, required in costs]


def write_document(measured: Measurements, *, rounds: int, seconds: int) -> str:
    """Return the Markdown of a run, at most 100 columns wide."""
    lines = ["# Performance", ""]
    for paragraph in _introduction(rounds, seconds):
        lines += [*textwrap.wrap(paragraph, 100, break_on_hyphens=False), ""]
    lines += [
        "| figure | measured | required |",
        "|---|---|---|",
        *(
            f"| {figure.name} | {figure.value:.3g} | {figure.requirement} |"
            for figure in make_figures(measured)
        ),
        "",
        "## HTTP requests",
        "",
        "| query | images | connections | requests/s | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|",
        *(
            f"| {case.query} | {case.size} | {case.connections} "
            f"| {load.rate:.0f} | {load.p50:.2f} | {load.p99:.2f} |"
            for case, load in measured.http.items()
        ),
        *(
            f"| pgbench, the same statement | 10k | {clients} | {rate:.0f} | | |"
            for clients, rate in measured.transactions.items()
        ),
        "",
        "## SQL statements",
        "",
        *textwrap.wrap(_OLDER, 100),
        "",
        "| list, all its statements | PostgreSQL 18, ms | PostgreSQL 15, ms |",
        "|---|---|---|",
        *(
            f"| {name} | {milliseconds:.2f} | {_format_older(measured, name)} |"
            for name, milliseconds in measured.sql.items()
        ),
        "",
        "## Space",
        "",
        *textwrap.wrap(_SPACE, 100),
        "",
        "| row, with its index entries | bytes |",
        "|---|---|",
        *(f"| {name} | {size:.0f} |" for name, size in measured.space.row_bytes.items()),
        "",
        "## Capacity",
        "",
        *_capacity(measured, _count_processors()),
    ]
    return "\n".join(lines) + "\n"


def _capacity(measured: Measurements, processors: int) -> list[str]:
    """Return the lines about what 1, 10 and 100 nodes carry, computed from the run."""
    node = measured.http[Case(DEFAULT_PAGE, "10k", 8)].rate
    database = measured.transactions[8] / processors
    recordings = measured.recording.rate
    lines = []
    for paragraph in (
        (
            f"A node of {processors} cores with 2 workers serves {node:.0f} default pages/s,"
            f" {node / processors:.0f} a core, though it shares its cores with the database and the"
            f" load generator. A core of the database executes the page's statement"
            f" {database:.0f} times/s (pgbench, 8 connections). One process and its database session"
            f" record {recordings:.0f} scans/s. They take turns, so that is the rate of one core."
        ),
        (
            f"N nodes serve the lower of N x {node:.0f} and D x {database:.0f} pages/s if the"
            f" database has D cores, and record at most N x 2 x {recordings:.0f} scans/s. These"
            " values are computed, not measured: a request executes more than the page's statement,"
            " PostgreSQL does not grow with its cores without limit, and the rates of disk, network"
            " and balancer are left out. Read the cores of the database as the least number."
        ),
    ):
        lines += [*textwrap.wrap(paragraph, 100, break_on_hyphens=False), ""]
    lines += [
        "| nodes | pages/s | cores of the database for them, at least | scans recorded/s, at most |",
        "|---|---|---|---|",
    ]
    for nodes in (1, 10, 100):
        pages = nodes * node
        cores = math.ceil(pages / database)
        lines.append(f"| {nodes} | {pages:.0f} | {cores} | {nodes * 2 * recordings:.0f} |")
    return lines


def _count_processors() -> int:
    return Path("/proc/cpuinfo").read_text(encoding="utf-8").count("processor\t")


def _format_older(measured: Measurements, name: str) -> str:
    return f"{measured.older_sql[name]:.2f}" if name in measured.older_sql else "not measured"


_OLDER = (
    "Medians. PostgreSQL 15 is Debian's package. It was measured after the rest, with the same images"
    " and settings, so a load from outside affects its times alone."
)
_SPACE = (
    f"The size of a database after {IMAGES} images with {FINDINGS} findings were scanned {LAST} times"
    " with the same findings is compared with its size after the first rounds. The rows are those of"
    " images that were scanned once; nothing was vacuumed by hand."
)


def _introduction(rounds: int, seconds: int) -> list[str]:
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    processors = _count_processors()
    generator = "wrk" if shutil.which("wrk") else "a Python client"
    return [
        (
            f"`make bench` wrote this page on {datetime.now(UTC):%Y-%m-%d}. The machine has"
            f" {processors} cores and runs {machine}. The load generator is {generator}."
        ),
        (
            "The service is gunicorn with 2 sync workers; PostgreSQL 18 listens on a Unix socket."
            " Load generator, service and database share the machine. Rates and times of requests"
            f" and lists are medians of {rounds} interleaved rounds; a request is repeated for"
            f" {seconds} s in each. Compare values of one run only."
        ),
        (
            "`static` is gunicorn and Flask with the bytes of one default page in memory. It gets"
            " the same request headers as the service. `pgbench` executes the statement of the"
            " default page. `make bench` fails if a measured value is not as required."
        ),
    ]
