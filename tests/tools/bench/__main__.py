"""Load the images, run the service, measure it and write docs/performance.md."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harborguard.api.cursors import encode_cursor
from harborguard.config import Config
from harborguard.dev.embedded import running_server
from harborguard.ingest import ingest_report
from harborguard.listing import ImageCriteria, Page, Sort, SortKey
from harborguard.model import Grade, Scope
from harborguard.store.connection import Connection, connect
from harborguard.store.images.changes import list_changes
from harborguard.store.images.list import list_images
from harborguard.store.migrations import migrate
from tests.support.postgres import pool_connection
from tests.support.service import PRODUCTION, ROOT, Service, await_health, free_port, launch
from tests.tools.bench import pgbench, recording
from tests.tools.bench.churn import FINDINGS, make_report, measure_space
from tests.tools.bench.document import (
    BY_RISK,
    DEFAULT_PAGE,
    FIRST_CHANGES,
    LAST_CHANGES,
    LOOKUP,
    STATIC,
    UNCHANGED,
    Case,
    Measurements,
    find_missed,
    last_page,
    write_document,
)
from tests.tools.bench.drive import LoadResult, drive
from tests.tools.bench.exports import measure_exports
from tests.tools.bench.load import SIZES, BenchTenant, load, rescan
from tests.tools.postgres_cluster import running_cluster

DOCUMENT = ROOT / "docs" / "performance.md"
POSTGRES15 = Path("/usr/lib/postgresql/15/bin")
ROUNDS, SECONDS = 5, 3
ListCase = tuple[str, ImageCriteria, Page]
# The medium term is in a ninth of the names.
SEARCHES: dict[str, ListCase] = {
    f"search, {kind}, {size}": (size, ImageCriteria(search=term), Page())
    for size in ("10k", "100k", "1M")
    for kind, term in (("rare", "service-0077777"), ("medium", "r3.test"), ("common", "service"))
}
Target = tuple[Case, Callable[[], LoadResult]]


def main() -> int:
    """Measure for about fifteen minutes; return 1 if a figure misses its required value."""
    with tempfile.TemporaryDirectory(prefix="harborguard-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # PostgreSQL runs as another account if this process is root's
        with running_server(directory / "state", shared_buffers="1GB") as server:
            config = Config(database_url=server.url)
            started = time.monotonic()
            with connect(config) as conn:
                migrate(conn)
                tenants = load(conn)
            print(f"loaded {sum(SIZES.values()):,} images in {time.monotonic() - started:.0f} s")
            measurements = measure(config, tenants, directory)
    measurements = replace(measurements, older_sql=measure_older_store())
    text = write_document(measurements, rounds=ROUNDS, seconds=SECONDS)
    print(text)
    DOCUMENT.write_text(text, encoding="utf-8")
    missed = find_missed(measurements)
    for figure in missed:
        print(f"missed: {figure.name} is {figure.value:.3g}, required {figure.requirement}")
    return 1 if missed else 0


def measure(config: Config, tenants: dict[str, BenchTenant], directory: Path) -> Measurements:
    """Measure the service, the limits and the store with the pool's session settings."""
    with pool_connection(config) as conn:
        with production_service(config, directory / "log") as service:
            body = directory / "body.json"
            body.write_bytes(service.request("/api/images", _key_header(tenants["10k"])).body)
            with static_server(body) as static_port:
                targets = make_targets(service, conn, tenants, static_port)
                http, sql = measure_interleaved(targets, conn, tenants)
            memory = measure_memory(service)
            exports = measure_exports(
                service.port,
                tenants,
                lambda: measure_memory(service),
                rounds=ROUNDS,
                seconds=SECONDS,
            )
        transactions = {
            clients: statistics.median(
                pgbench.transactions_per_second(
                    config.database_url, tenants["10k"].organization_id, clients, SECONDS
                )
                for _ in range(ROUNDS)
            )
            for clients in (1, 8)
        }
        sql |= time_rescanned(conn, tenants)
        recorded = recording.measure_recording(conn)
    space = measure_space(directory / "space")
    return Measurements(http, sql, {}, transactions, memory, recorded, space, exports)


def measure_older_store() -> dict[str, float]:
    """Return the times of the store on Debian's PostgreSQL 15, or nothing if it is missing."""
    if not (POSTGRES15 / "postgres").exists():
        return {}
    times: dict[str, list[float]] = {}
    with running_cluster(POSTGRES15, "shared_buffers=1GB", "timezone=UTC") as url:
        config = Config(database_url=url)
        with connect(config) as conn:
            migrate(conn)
            tenants = load(conn)
        with pool_connection(config) as conn:
            for _ in range(ROUNDS):
                for name, milliseconds in time_store(conn, tenants):
                    times.setdefault(name, []).append(milliseconds)
            medians = {name: statistics.median(samples) for name, samples in times.items()}
            return medians | time_rescanned(conn, tenants)


def make_targets(
    service: Service, conn: Connection, tenants: dict[str, BenchTenant], static_port: int
) -> list[Target]:
    """Return the requests to repeat, each with a function that repeats it for some seconds."""

    def list_target(
        size: str, query: str = "", *, connections: int = 8, unchanged: bool = False
    ) -> Target:
        path, headers = f"/api/images{'?' if query else ''}{query}", _key_header(tenants[size])
        label = query or DEFAULT_PAGE
        if unchanged:
            headers["If-None-Match"] = service.request(path, headers).headers["etag"]
            label = UNCHANGED
        return Case(label, size, connections), lambda: drive(
            service.port, path, headers, connections=connections, seconds=SECONDS
        )

    def target(label: str, path: str) -> Target:
        headers = _key_header(tenants["1M"])
        return Case(label, "1M", 8), lambda: drive(
            service.port, path, headers, connections=8, seconds=SECONDS
        )

    def static_target(connections: int) -> Target:
        # Both servers get the same request headers, so that both spend the same time on parsing.
        headers = _key_header(tenants["10k"])
        return Case(STATIC, "10k", connections), lambda: drive(
            static_port, "/api/images", headers, connections=connections, seconds=SECONDS
        )

    return [
        *(list_target(size) for size in SIZES),
        list_target("10k", connections=1),
        static_target(1),
        static_target(8),
        list_target("10k", unchanged=True),
        list_target("1M", unchanged=True),
        list_target("10k", BY_RISK),
        list_target("1M", BY_RISK),
        list_target("1M", "registry=r3.test"),
        list_target("1M", "registry=r9.test"),
        list_target("1M", f"page={last_page()}"),
        list_target("1M", f"page={last_page() // 2}", connections=1),
        target(LOOKUP, f"/api/images/lookup?ref={record_tag(conn, tenants['1M'])}"),
        target(FIRST_CHANGES, "/api/images/changes"),
        target(LAST_CHANGES, f"/api/images/changes?after={find_last_cursor(conn, tenants['1M'])}"),
        list_target("100k", "search=service-0077777", connections=1),
        list_target("100k", "search=service", connections=1),
        list_target("10k", "search=service-0077777", connections=1),
        list_target("10k", "search=service", connections=1),
        list_target("1M", "search=service-0077777", connections=1),
        list_target("1M", "search=r3.test", connections=1),
        list_target("1M", "search=service", connections=1),
    ]


def record_tag(conn: Connection, tenant: BenchTenant) -> str:
    """Record ten scans of a tag of an image in the list; return the tag's reference."""
    query = "SELECT max(name) FROM images WHERE organization_id = %s"
    [(name,)] = conn.execute(query, [tenant.organization_id]).fetchall()
    now = datetime.now(UTC)
    for day in range(10):
        body = make_report(name, 0, FINDINGS, now - timedelta(days=10 - day))
        ingest_report(conn, tenant.organization_id, body, received_at=now)
    return f"{name}:1"


def find_last_cursor(conn: Connection, tenant: BenchTenant) -> str:
    """Return the cursor of the last full page of changes."""
    query = """
        SELECT version, image_id
        FROM image_changes
        WHERE organization_id = %s
        ORDER BY version DESC, image_id DESC
        LIMIT 1 OFFSET 50
    """
    [(version, image_id)] = conn.execute(query, [tenant.organization_id]).fetchall()
    scope = Scope(tenant.organization_id)
    position = list_changes(conn, scope, limit=1).position
    return encode_cursor(position._replace(version=version, image_id=image_id), scope, None)


def measure_interleaved(
    targets: list[Target], conn: Connection, tenants: dict[str, BenchTenant]
) -> tuple[dict[Case, LoadResult], dict[str, float]]:
    """Return the medians over some rounds, each of which measures every target and the store.

    A load from outside the benchmark that lasts longer than a round slows all targets alike.
    """
    results: dict[Case, list[LoadResult]] = {case: [] for case, _ in targets}
    times: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for case, run in targets:
            results[case].append(run())
        for name, milliseconds in time_store(conn, tenants):
            times.setdefault(name, []).append(milliseconds)
    http = {
        case: LoadResult(
            statistics.median(run.rate for run in runs),
            statistics.median(run.p50 for run in runs),
            statistics.median(run.p99 for run in runs),
        )
        for case, runs in results.items()
    }
    return http, {name: statistics.median(samples) for name, samples in times.items()}


def time_store(conn: Connection, tenants: dict[str, BenchTenant]) -> Iterator[tuple[str, float]]:
    """Yield a name and the milliseconds of one `list_images`, with all its statements."""
    by_risk = Sort(SortKey.RISK_SCORE, descending=True)
    filtered = ImageCriteria(grades=(Grade.A, Grade.B), sort=by_risk)
    cases: dict[str, ListCase] = {
        "first page, 1M": ("1M", ImageCriteria(), Page()),
        "last page, 1M": ("1M", ImageCriteria(), Page(last_page())),
        "filtered, 1M": ("1M", filtered, Page()),
        "middle page, 1M": ("1M", ImageCriteria(), Page(last_page() // 2)),
        **SEARCHES,
    }
    yield from _time_cases(conn, tenants, cases)


def time_rescanned(conn: Connection, tenants: dict[str, BenchTenant]) -> dict[str, float]:
    """Change all images as new scans do; return the medians of the searches before a vacuum."""
    conn.execute("ALTER TABLE images SET (autovacuum_enabled = off)")
    rescan(conn, tenants)
    times: dict[str, list[float]] = {}
    for name, milliseconds in _time_cases(conn, tenants, SEARCHES):
        times.setdefault(f"{name}, rescanned", []).append(milliseconds)
    return {name: statistics.median(samples) for name, samples in times.items()}


def _time_cases(
    conn: Connection, tenants: dict[str, BenchTenant], cases: Mapping[str, ListCase]
) -> Iterator[tuple[str, float]]:
    for _ in range(5):
        for name, (size, criteria, page) in cases.items():
            started = time.perf_counter()
            list_images(conn, Scope(tenants[size].organization_id), criteria, page)
            yield name, (time.perf_counter() - started) * 1e3


@contextmanager
def production_service(config: Config, log: Path) -> Iterator[Service]:
    """Run the service with its production configuration; write its log to a file."""
    port = free_port()
    settings = {"DATABASE_URL": config.database_url, "HARBORGUARD_LOG_LEVEL": "info"}
    with log.open("wb") as file, launch(PRODUCTION, port, settings, file) as process:
        service = Service(port, process)
        try:
            await_health(service)
            yield service
        finally:
            process.terminate()


@contextmanager
def static_server(body: Path) -> Iterator[int]:
    """Run gunicorn with the static application; yield its port."""
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


def measure_memory(service: Service) -> float:
    """Return the MiB of master and workers (PSS: shared pages are counted once)."""
    kilobytes = 0
    for pid in [service.process.pid, *service.workers()]:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                kilobytes += int(line.split()[1])
    return kilobytes / 1024


def _key_header(tenant: BenchTenant) -> dict[str, str]:
    return {"X-API-Key": tenant.key}


if __name__ == "__main__":
    sys.exit(main())
