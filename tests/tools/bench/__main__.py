"""Loads, serves, drives, prints one table, and writes it to docs/performance.md."""

import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from harborguard.config import Config
from harborguard.dev.embedded import running_server
from harborguard.listing import ImageCriteria, Page, Sort, SortKey
from harborguard.model import Grade, Scope
from harborguard.store.connection import Connection, connect
from harborguard.store.images.list import list_images
from harborguard.store.migrations import migrate
from tests.support.service import PRODUCTION, ROOT, Service, await_health, free_port, launch
from tests.tools.bench import pgbench, recording
from tests.tools.bench.drive import Seen, drive
from tests.tools.bench.load import SIZES, BenchTenant, load

ROUNDS, SECONDS = 5, 3
BY_RISK = "grade=A,B&sort=riskScore:desc"
Table = list[tuple[str, str]]
Target = tuple[str, Callable[[], Seen]]


def main() -> None:
    """One run; some seven minutes."""
    with tempfile.TemporaryDirectory(prefix="harborguard-bench-") as name:
        Path(name).chmod(0o755)
        state = Path(name) / "state"
        with running_server(state, shared_buffers="1GB") as server:
            config = Config(database_url=server.url)
            with connect(config) as conn:
                migrate(conn)
                began = time.monotonic()
                tenants = load(conn)
                print(f"loaded {sum(SIZES.values()):,} images in {time.monotonic() - began:.0f} s")
                lines = measure(conn, config, tenants, Path(name))
    text = "\n".join(lines)
    print(text)
    (ROOT / "docs" / "performance.md").write_text(text + "\n", encoding="utf-8")


def measure(
    conn: Connection, config: Config, tenants: dict[str, BenchTenant], spare: Path
) -> list[str]:
    """Everything that is measured, as the lines of the document."""
    with production(config, spare / "log") as service:
        body = spare / "body.json"
        body.write_bytes(service.ask("/api/images", _key(tenants["10k"])).body)
        with static_server(body) as static_port:
            targets = http_targets(service, tenants, static_port)
            seen, sql = interleaved(targets, conn, tenants)
        memory = pss(service)
    limits = {
        clients: statistics.median(
            pgbench.transactions_a_second(
                config.database_url, tenants["10k"].organization_id, clients, SECONDS
            )
            for _ in range(ROUNDS)
        )
        for clients in (1, 8)
    }
    cost = recording.cost_of_counters(conn)
    return report(seen, limits, sql, memory, cost)


def http_targets(
    service: Service, tenants: dict[str, BenchTenant], static_port: int
) -> list[Target]:
    """What is asked over HTTP; a name tells question, size and connections."""

    def ask(size: str, query: str = "", *, connections: int = 8, etag: bool = False) -> Target:
        tenant, path = tenants[size], f"/api/images{'?' if query else ''}{query}"
        headers = _key(tenant)
        if etag:
            headers["If-None-Match"] = service.ask(path, headers).headers["etag"]
        shown = query or "default page"
        name = f"{shown}{', unchanged' if etag else ''} | {size} | {connections}"
        return name, lambda: drive(
            service.port, path, headers, connections=connections, seconds=SECONDS
        )

    def static(connections: int) -> Target:
        # The same request, down to its headers: a server reads those before it knows who asks.
        headers = _key(tenants["10k"])
        return f"static, same bytes | 10k | {connections}", lambda: drive(
            static_port, "/api/images", headers, connections=connections, seconds=SECONDS
        )

    last = f"page={SIZES['1M'] // 50}"
    return [
        *(ask(size) for size in SIZES),
        ask("10k", connections=1),
        static(1),
        static(8),
        ask("10k", etag=True),
        ask("1M", etag=True),
        ask("10k", BY_RISK),
        ask("1M", BY_RISK),
        ask("1M", "registry=r3.test"),
        ask("1M", "registry=r9.test"),
        ask("1M", last),
        ask("1M", f"page={SIZES['1M'] // 100}", connections=1),
        ask("100k", "search=service-0077777", connections=1),
        ask("100k", "search=service", connections=1),
        ask("1M", "search=service-0077777", connections=1),
        ask("1M", "search=service", connections=1),
    ]


def interleaved(
    targets: list[Target], conn: Connection, tenants: dict[str, BenchTenant]
) -> tuple[dict[str, Seen], dict[str, float]]:
    """The medians of some rounds, each of which asks every target, and the store, in turn.

    A machine that is slow for a minute is slow for all of them then.
    """
    rounds: dict[str, list[Seen]] = {name: [] for name, _ in targets}
    samples: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, run in targets:
            rounds[name].append(run())
        for name, milliseconds in sql_samples(conn, tenants):
            samples.setdefault(name, []).append(milliseconds)
    seen = {
        name: Seen(
            statistics.median(s.rate for s in runs),
            statistics.median(s.p50 for s in runs),
            statistics.median(s.p99 for s in runs),
        )
        for name, runs in rounds.items()
    }
    return seen, {name: statistics.median(taken) for name, taken in samples.items()}


def sql_samples(conn: Connection, tenants: dict[str, BenchTenant]) -> Iterator[tuple[str, float]]:
    """Milliseconds from asking the store to its rows, all statements of a listing together."""
    by_risk = Sort(SortKey.RISK_SCORE, descending=True)
    filtered = ImageCriteria(grades=(Grade.A, Grade.B), sort=by_risk)
    whole = SIZES["1M"] // 50
    asked = {
        "first page, 1M": ("1M", ImageCriteria(), Page()),
        "last page, 1M": ("1M", ImageCriteria(), Page(whole)),
        "filtered, 1M": ("1M", filtered, Page()),
        "middle page, 1M": ("1M", ImageCriteria(), Page(whole // 2)),
        "search, rare, 100k": ("100k", ImageCriteria(search="service-0077777"), Page()),
        "search, common, 100k": ("100k", ImageCriteria(search="service"), Page()),
        "search, rare, 1M": ("1M", ImageCriteria(search="service-0077777"), Page()),
        "search, common, 1M": ("1M", ImageCriteria(search="service"), Page()),
    }
    conn.prepare_threshold = 0
    for _ in range(5):
        for name, (size, criteria, page) in asked.items():
            yield name, _timed(conn, tenants[size], criteria, page)


def _timed(conn: Connection, tenant: BenchTenant, criteria: ImageCriteria, page: Page) -> float:
    began = time.perf_counter()
    list_images(conn, Scope(tenant.organization_id), criteria, page)
    return (time.perf_counter() - began) * 1e3


def report(
    seen: dict[str, Seen],
    limits: dict[int, float],
    sql: dict[str, float],
    memory: float,
    cost: float,
) -> list[str]:
    """The document."""
    default, by_risk = "default page", BY_RISK
    rate = {name: figures.rate for name, figures in seen.items()}
    p99 = seen[f"{default} | 10k | 8"].p99 / seen[f"{default} | 10k | 8"].p50
    last = f"page={SIZES['1M'] // 50} | 1M | 8"
    one, eight = rate[f"{default} | 10k | 1"], rate[f"{default} | 10k | 8"]
    searches = {
        n: max(v for k, v in sql.items() if "search" in k and n in k) for n in ("100k", "1M")
    }
    bars: list[tuple[str, float, str]] = [
        ("1M over 1k, default page", rate[f"{default} | 1M | 8"] / rate[f"{default} | 1k | 8"], "at least 0.75"),
        (f"`{by_risk}`, 1M over 10k", rate[f"{by_risk} | 1M | 8"] / rate[f"{by_risk} | 10k | 8"], "at least 0.5"),
        ("last page over first, 1M", rate[last] / rate[f"{default} | 1M | 8"], "at least 0.5"),
        ("share of static, 1 connection", one / rate["static, same bytes | 10k | 1"], "at least 0.30"),
        ("share of static, 8 connections", eight / rate["static, same bytes | 10k | 8"], "at least 0.30"),
        ("share of pgbench, 1 connection", one / limits[1], "at least 0.12"),
        ("share of pgbench, 8 connections", eight / limits[8], "at least 0.09"),
        ("unchanged poll over full answer, 10k", rate[f"{default}, unchanged | 10k | 8"] / eight, "at least 1.25"),
        ("p99 over p50, 8 connections, 10k", p99, "at most 4"),
        ("SQL, first page at 1M, ms", sql["first page, 1M"], "at most 1"),
        ("SQL, last page at 1M, ms", sql["last page, 1M"], "at most 1.5"),
        ("SQL, filtered page at 1M, ms", sql["filtered, 1M"], "at most 3"),
        ("SQL, middle page at 1M, ms", sql["middle page, 1M"], "at most 50"),
        ("search at 100k, the slower term, ms", searches["100k"], "at most 20"),
        ("search at 1M, the slower term, ms", searches["1M"], "at most 200"),
        ("memory of master and 2 workers after load (PSS), MiB", memory, "at most 85"),
        ("recording 500 images with counters over without", cost, "at most 1.5"),
    ]  # fmt: skip
    return [
        "# Performance",
        "",
        f"Written by `make bench` on {datetime.now(UTC):%Y-%m-%d}: {_machine()}.",
        f"gunicorn with 2 sync workers, PostgreSQL 18 on a Unix socket, driven from the same machine; medians of {ROUNDS}",
        f"interleaved rounds of {SECONDS} s. The machine is shared by all of them: compare within this run only.",
        "",
        "| figure | seen | bar |",
        "|---|---|---|",
        *(f"| {name} | {value:.3g} | {bar} |" for name, value, bar in bars),
        "",
        "| question | images | connections | requests/s | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|",
        *(f"| {name} | {s.rate:.0f} | {s.p50:.2f} | {s.p99:.2f} |" for name, s in seen.items()),
        f"| pgbench, the same statement | 10k | 1 | {limits[1]:.0f} | | |",
        f"| pgbench, the same statement | 10k | 8 | {limits[8]:.0f} | | |",
        "",
        "| listing, all its statements at the client | median ms |",
        "|---|---|",
        *(f"| {name} | {value:.2f} |" for name, value in sql.items()),
    ]


@contextmanager
def production(config: Config, log: Path) -> Iterator[Service]:
    """The service as it is deployed, down to the log, which somebody cheap takes."""
    port = free_port()
    settings = {"DATABASE_URL": config.database_url, "HARBORGUARD_LOG_LEVEL": "info"}
    with log.open("wb") as said, launch(PRODUCTION, port, settings, said) as process:
        service = Service(port, process)
        try:
            await_health(service)
            yield service
        finally:
            process.terminate()


@contextmanager
def static_server(body: Path) -> Iterator[int]:
    """The same server over nothing but bytes."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "-w2",
        f"-b127.0.0.1:{port}",
        "--no-control-socket",
    ]
    environment = {"PATH": "/usr/bin:/bin", "BENCH_BODY": str(body)}
    with subprocess.Popen(
        [*command, "tests.tools.bench.static"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    ) as process:
        time.sleep(2)
        try:
            yield port
        finally:
            process.terminate()


def pss(service: Service) -> float:
    """MiB of memory that master and workers hold, what they share counted once."""
    total = 0
    for pid in [service.process.pid, *service.workers()]:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def _key(tenant: BenchTenant) -> dict[str, str]:
    return {"X-API-Key": tenant.key}


def _machine() -> str:
    processors = Path("/proc/cpuinfo").read_text().count("processor\t")
    driver = "wrk" if shutil.which("wrk") else "a small client of our own"
    return f"{processors} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}, {driver}"


if __name__ == "__main__":
    main()
