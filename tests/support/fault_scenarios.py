"""Fault scenarios of any size: the tests run small ones, tests/tools/soak.py runs full ones."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from harborguard.config import Config
from harborguard.ingest import ingest_report
from harborguard.store.connection import Connection, connect
from harborguard.store.counters import find_incorrect_counters, repair_counters
from harborguard.store.errors import translate_error
from harborguard.store.migrations import migrate
from harborguard.store.organizations import create_organization, find_organization_state
from harborguard.store.pool import Pool, make_pool
from tests.support.change_histories import run_history
from tests.support.fault_injection import (
    Call,
    Cluster,
    clients,
    cluster,
    deployed,
    nginx,
    pgbouncer,
    relay_to,
    replica_of,
    require_program,
    results,
    seed,
    short_directory,
    wrk,
)
from tests.support.raw_requests import REQUESTS, find_problems, send
from tests.support.reports import envelope
from tests.support.service import PRODUCTION, ROOT, Service, running, serving
from tests.support.tenants import OPERATOR
from tests.support.waiting import wait_until

UNIT = ROOT / "deploy/harborguard.socket"
# No worker is replaced, so that a new worker means that one died.
NO_RECYCLING = {"GUNICORN_CMD_ARGS": "--max-requests 0"}
# Factor for limits of time: 1 on an idle machine, more while other tests use the processors.
TIME_FACTOR = 1.0


@dataclass(frozen=True)
class Outcome:
    """What a scenario did, what was observed, and whether its requirement is met."""

    action: str
    observed: str
    passed: bool


def slowest(calls: list[Call], quantile: float = 1.0) -> float:
    """Return the quantile of the durations in seconds; the maximum by default."""
    ordered = sorted(call.took for call in calls)
    return ordered[min(int(quantile * len(ordered)), len(ordered) - 1)] if ordered else 0


def first_success(calls: list[Call], since: float) -> float:
    """Wait for the first 200 after a moment, and return the seconds in between."""

    def after() -> list[float]:
        return [c.ended for c in calls[-2000:] if c.result == 200 and c.ended > since]

    wait_until(after)
    return min(after()) - since


# -- database


def database_stops(cycles: int) -> Outcome:
    """D1: the database is stopped with `pg_ctl stop -m immediate` under load and started again."""
    rejected: list[Call] = []
    recoveries: list[float] = []
    with cluster() as database:
        keys = seed(database.url)
        with (
            deployed(database.url, **NO_RECYCLING) as service,
            clients(service.port, keys) as calls,
        ):
            workers = service.workers()
            for cycle in range(cycles):
                wait_until(lambda: results(calls[-20:])[200] == 20)
                stopped = time.monotonic()
                database.stop()
                # Every tenth outage is longer than any timeout.
                time.sleep(15 if cycle % 10 == 0 else random.uniform(1, 3))
                database.start()
                started = time.monotonic()
                recoveries.append(first_success(calls, started))
                rejected += [c for c in calls if stopped < c.began < started and c.result == 503]
            unchanged = service.workers() == workers
    statuses = results(calls)
    return Outcome(
        f"{cycles} stops under {len(calls)} requests",
        f"responses {dict(statuses)}; slowest 503 {slowest(rejected):.2f} s, "
        f"first 200 at most {max(recoveries):.2f} s after the start; "
        f"{'no process restarted' if unchanged else 'A PROCESS RESTARTED'}",
        set(statuses) <= {200, 503}
        and slowest(rejected) < 2.5 * TIME_FACTOR
        and max(recoveries) < 2 * TIME_FACTOR
        and len(rejected) > 0
        and unchanged,
    )


def backends_die(seconds: float) -> Outcome:
    """D2: `pg_terminate_backend` closes ten connections of the service per second."""
    kill = """
        SELECT pg_terminate_backend(pid) FROM (
            SELECT pid FROM pg_stat_activity
            WHERE application_name = 'harborguard' ORDER BY random() LIMIT 1
        ) AS backend
    """
    killed = 0
    with cluster() as database:
        keys = seed(database.url)
        with deployed(database.url) as service, clients(service.port, keys, pause=0.002) as calls:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                killed += len(database.execute(kill))
                time.sleep(0.09)
    statuses = results(calls)
    return Outcome(
        f"{killed} connections killed in {seconds:.0f} s under {len(calls)} requests",
        f"responses {dict(statuses)}",
        set(statuses) <= {200, 503} and statuses[503] <= len(calls) / 1000 and killed > 5 * seconds,
    )


def database_is_silent(seconds: float) -> Outcome:
    """D3: the database sends no data, while TCP still acknowledges the data sent to it."""
    with cluster() as database, relay_to(database) as (relay, url):
        keys = seed(database.url)
        with deployed(url, **NO_RECYCLING) as service, clients(service.port, keys, 8) as calls:
            wait_until(lambda: results(calls)[200] > 50)
            threads_before = sum(map(count_threads, service.workers()))
            relay.forwarding.clear()
            began = time.monotonic()
            time.sleep(seconds)
            relay.forwarding.set()
            ended = time.monotonic()
            recovery = first_success(calls, ended)
            wait_until(lambda: results(calls[-100:])[200] == 100)
            threads_after = sum(map(count_threads, service.workers()))
    errors = [c for c in calls if began - 0.5 < c.began < ended and c.result != 200]
    statuses = results(calls)
    return Outcome(
        f"{seconds:.0f} s without data from the database, {len(calls)} requests by 8 clients",
        f"responses {dict(statuses)}; slowest error {slowest(errors):.2f} s, "
        f"first 200 {recovery:.2f} s after that; "
        f"threads of the workers {threads_before} before, {threads_after} after",
        set(statuses) <= {200, 503, 504}
        and slowest(errors) < 5 * TIME_FACTOR
        and recovery < 3 * TIME_FACTOR
        and threads_after <= threads_before,
    )


def count_threads(pid: int) -> int:
    """Return the number of threads of a process."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def replica_is_promoted() -> Outcome:
    """D5: the primary of a URL with two hosts stops, and the replica is promoted."""
    with ExitStack() as stack:
        primary = stack.enter_context(cluster())
        keys = seed(primary.url)
        replica = stack.enter_context(replica_of(primary))
        hosts = f"{primary.socket_directory},{replica.socket_directory}"
        url = f"postgresql://harborguard@/harborguard?host={hosts}&port=5432,5432"
        url += "&target_session_attrs=read-write"
        with deployed(url, **NO_RECYCLING) as service, clients(service.port, keys) as calls:
            wait_until(lambda: results(calls)[200] > 50)
            primary.stop()
            time.sleep(1)
            promoted = time.monotonic()
            replica.execute("SELECT pg_promote()")
            recovery = first_success(calls, promoted)
    statuses = results(calls)
    return Outcome(
        f"the primary stopped, the replica promoted, under {len(calls)} requests",
        f"responses {dict(statuses)}; first 200 {recovery:.2f} s after the promotion",
        set(statuses) <= {200, 503} and recovery < 5 * TIME_FACTOR,
    )


def more_clients_than_connections(seconds: float, count: int = 200) -> Outcome:
    """D7: threads share a pool of two connections and retry after an error."""

    def query(pool: Pool, until: float) -> list[Call]:
        calls = []
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                with pool.connection() as conn:
                    conn.execute("SELECT pg_sleep(0.02)")
                calls.append(Call(began, time.monotonic() - began, 200))
            except Exception as error:
                code = getattr(translate_error(error), "code", type(error).__name__)
                calls.append(Call(began, time.monotonic() - began, code))
                time.sleep(0.5)
        return calls

    with cluster() as database, make_pool(Config(database_url=database.url)) as pool:
        few, many = (run_threads(partial(query, pool), n, seconds) for n in (pool.max_size, count))
    errors = [c for c in many if c.result != 200]
    served = results(many)[200] / results(few)[200]
    return Outcome(
        f"{count} clients of a pool of {pool.max_size} for {seconds:.0f} s",
        f"{dict(results(many))}; slowest error {slowest(errors):.2f} s; "
        f"{served:.0%} of the throughput of {pool.max_size} clients",
        set(results(many)) == {200, "SERVICE_UNAVAILABLE"}
        and slowest(errors) < 2.5 * TIME_FACTOR
        and served >= 0.8 / TIME_FACTOR,
    )


def run_threads(query: Callable[[float], list[Call]], size: int, seconds: float) -> list[Call]:
    """Run a function in `size` threads at once and return all calls."""
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(size) as threads:
        return [call for calls in threads.map(query, [until] * size) for call in calls]


def more_clients_than_workers(seconds: float, count: int = 200) -> Outcome:
    """D7: many clients send requests to two workers, which handle one request at a time."""
    with cluster() as database:
        keys = seed(database.url)
        with deployed(database.url) as service:
            with wrk(service.port, keys, seconds) as few:
                pass
            with wrk(service.port, keys, seconds, connections=count) as many:
                pass
    served = many[0].per_second / few[0].per_second
    return Outcome(
        f"{count} clients of two workers for {seconds:.0f} s, {many[0].requests} requests",
        f"{many[0].failed} failed, p99 {many[0].p99_ms / 1000:.2f} s; {served:.0%} of the "
        f"throughput of 8 clients",
        many[0].failed == 0 and many[0].p99_ms < 2500 * TIME_FACTOR and served >= 0.8 / TIME_FACTOR,
    )


MIGRATE = """
import sys
from harborguard.config import Config
from harborguard.store.migrations import Migration, migrate, read_migrations
from harborguard.store.connection import connect
steps = read_migrations()
for number in range(len(steps) + 1, len(steps) + 1 + int(sys.argv[2])):
    text = f"ALTER TABLE images ADD step_{number} integer; CREATE INDEX ON images (step_{number})"
    steps.append(Migration(number, f"{number:04}_extra", text))
with connect(Config(database_url=sys.argv[1])) as conn:
    print("ready", flush=True)
    sys.stdin.read(1)
    migrate(conn, steps)
"""


@contextmanager
def migrations(url: str, extra: int, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start processes that apply `extra` migrations beyond this release, all at the same moment."""
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", MIGRATE, url, str(extra)],
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            )
            for _ in range(count)
        ]
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write(b"x")
            process.stdin.flush()
        yield started


def migrations_race(rounds: int, kills: int) -> Outcome:
    """D10: four processes migrate at once, and others are killed at random, during reads."""
    failed = 0
    with cluster() as database:
        keys = seed(database.url)
        with deployed(database.url) as service, clients(service.port, keys) as calls:
            for number in range(1, rounds + 1):
                with migrations(database.url, number, 4) as runners:
                    failed += sum(runner.wait() != 0 for runner in runners)
            for number in range(rounds + 1, rounds + kills + 1):
                with migrations(database.url, number, 1) as [runner]:
                    time.sleep(random.uniform(0, 0.03))
                    runner.kill()
            with migrations(database.url, rounds + kills, 1) as [runner]:
                failed += runner.wait() != 0
        broken = database.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid")[0][0]
        [(applied, last)] = database.execute("SELECT count(*), max(number) FROM schema_migrations")
    statuses = results(calls)
    return Outcome(
        f"{rounds} rounds of 4 processes at once, {kills} processes killed, "
        f"during {len(calls)} reads",
        f"{failed} processes failed, {broken} invalid indexes, migrations 1 to {last} each applied "
        f"{'once' if applied == last else 'NOT ONCE'}; responses {dict(statuses)}",
        failed == 0 and broken == 0 and applied == last and set(statuses) == {200},
    )


def org_deletions_are_killed(kills: int, images: int) -> Outcome:
    """D13: `org delete` is killed at random, and its next run continues."""
    problems: list[str] = []
    remaining: list[int] = []
    begun = 0
    with cluster() as database, connect(Config(database_url=database.url)) as conn:
        migrate(conn)
        environment = {"PATH": os.environ["PATH"], "DATABASE_URL": database.url}
        seconds = run_until_killed(["org", "list"], environment, None) * 2
        while len(remaining) < kills or not begun:
            organization_id = create_organization(conn, "acme", actor=OPERATOR)
            fill_organization(conn, organization_id, images)
            command = ["org", "delete", "acme", "--confirm", "acme"]
            while find_organization_state(conn, "acme"):
                took = run_until_killed(command, environment, random.uniform(0, seconds))
                seconds = max(seconds, took)
                if find_organization_state(conn, "acme"):
                    [(left,)] = conn.execute("SELECT count(*) FROM images").fetchall()
                    remaining.append(left)
                    begun += 0 < left < images
                    problems += map(str, find_incorrect_counters(conn, organization_id))
                    problems += find_half_deleted(conn)
            rows = [table for table, count in count_rows(conn).items() if count]
            problems += [f"rows in {table}" for table in rows]
    return Outcome(
        f"`org delete` of {images} images killed {len(remaining)} times, {begun} times halfway",
        f"problems: {', '.join(problems) or 'none'}",
        not problems,
    )


def run_until_killed(
    command: list[str], environment: dict[str, str], seconds: float | None
) -> float:
    """Run a command and kill it after some seconds, unless it ended; return how long it ran."""
    started = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "harborguard", *command],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return time.monotonic() - started


def fill_organization(conn: Connection, organization_id: str, images: int) -> None:
    """Record a number of images in one registry, each with a tag and findings."""
    with conn.transaction():
        for number in range(images):
            body = envelope(f"ghcr.io/acme/service-{number}:1", (1, 1), scan_id=f"scan-{number}")
            ingest_report(conn, organization_id, body, received_at=datetime.now(UTC))


def find_half_deleted(conn: Connection) -> list[str]:
    """Return a text for each image that lost some of its rows."""
    query = """
        SELECT images.name
        FROM images
        WHERE NOT EXISTS (SELECT FROM tags WHERE image_id = images.id)
            OR NOT EXISTS (SELECT FROM scans WHERE image_id = images.id)
            OR NOT EXISTS (SELECT FROM scan_findings WHERE image_id = images.id)
            OR 2 <> (
                SELECT count(*)
                FROM finding_sets AS own
                JOIN findings
                    ON findings.organization_id = own.organization_id AND findings.set_id = own.id
                WHERE own.organization_id = images.organization_id AND own.image_id = images.id
            )
        UNION ALL
        SELECT 'findings without an image'
        FROM findings
        WHERE set_id NOT IN (
            SELECT finding_sets.id FROM finding_sets JOIN images ON images.id = image_id
        )
    """
    return [f"half deleted: {name}" for (name,) in conn.execute(query).fetchall()]


def count_rows(conn: Connection) -> dict[str, int]:
    """Return the number of rows of every table but that of the migrations."""
    names = conn.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        " AND tablename <> 'schema_migrations'"
    ).fetchall()
    return {name: conn.execute(f"SELECT FROM {name}".encode()).rowcount for (name,) in names}


def through_a_pooler(tests: list[str]) -> Outcome:
    """D11: the tests of the API run through pgbouncer in transaction mode."""
    with cluster() as database, pgbouncer(database) as port:
        database.execute("ALTER ROLE harborguard CREATEDB")
        database.execute("GRANT SET ON PARAMETER deadlock_timeout TO harborguard")  # a test sets it
        for statement in role_settings():
            database.execute(statement)
        environment = {
            "PATH": os.environ["PATH"],
            "HARBORGUARD_TEST_DATABASE_URL": database.url,
            "HARBORGUARD_TEST_POOLER": f"127.0.0.1:{port}",
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    version = subprocess.run(
        [require_program("pgbouncer"), "--version"], capture_output=True, text=True
    )
    return Outcome(
        f"{' '.join(tests)} through {version.stdout.splitlines()[0]}, transaction mode",
        done.stdout.strip().splitlines()[-1],
        done.returncode == 0,
    )


def role_settings() -> list[str]:
    """Return the statements in docs/operations.md that replace settings a pooler drops."""
    lines = (ROOT / "docs/operations.md").read_text().splitlines()
    return [line.strip() for line in lines if line.strip().startswith("ALTER ROLE harborguard SET")]


# Three quarters of the images are unseen. Each image has five unfinished scans and a finding.
FILL_FOR_PRUNE = """
    WITH image AS (
        INSERT INTO images (organization_id, registry_id, name, created_at)
        SELECT
            organization_id, id, 'ghcr.io/old/' || n,
            CASE WHEN n % 4 > 0 THEN '2026-01-01' ELSE now() END
        FROM registries, generate_series(1, {images}) AS n
        RETURNING organization_id, name, registry_id
    )
    INSERT INTO image_names (organization_id, name, registry_id)
    SELECT organization_id, name, registry_id
    FROM image;
    INSERT INTO scans (
        organization_id, image_id, external_id, content_sha256, scanners, status, finished_at,
        recorded_at, critical, high, medium, low, risk_score, grade
    )
    SELECT
        organization_id, id, id || n, sha256('x'), '{{trivy}}', 'FAILED', '2026-01-01',
        '2026-01-01', 0, 0, 0, 0, 0, 'A'
    FROM images, generate_series(1, 5) AS n;
    INSERT INTO finding_sets (organization_id, image_id, sha256)
    SELECT organization_id, id, sha256('x') FROM images;
    INSERT INTO findings (
        organization_id, set_id, position, vulnerability_id, package, installed_version, severity,
        sources
    )
    SELECT organization_id, id, 0, 'CVE-2026-1', 'zlib', '1.0', 'LOW', '{{trivy}}'
    FROM finding_sets;
    ANALYZE
"""
# Rows without an image or a set of findings, and images without any scan or findings.
HALF_DELETED = """
    SELECT count(*)
    FROM images
    FULL JOIN (SELECT DISTINCT image_id FROM scans) AS scans ON scans.image_id = images.id
    FULL JOIN finding_sets ON finding_sets.image_id = coalesce(images.id, scans.image_id)
    FULL JOIN findings ON findings.set_id = finding_sets.id
    WHERE num_nulls(images.id, scans.image_id, finding_sets.id, findings.set_id) > 0
"""


def prune_is_killed(kills: int) -> Outcome:
    """D12: `harborguard prune` is killed at random moments during reads, and then runs to the end.

    The counters are compared with the images after each kill.
    """
    images = 1200 * (kills + 1)
    command = [sys.executable, "-m", "harborguard", "prune", "--org", "acme"]
    command += ["--unseen-for", "90d", "--keep-scans", "1"]
    running = incorrect = half_deleted = 0
    with cluster() as database, connect(Config(database_url=database.url)) as conn:
        keys = seed(database.url, images=1)
        conn.execute("DELETE FROM images")
        conn.execute(FILL_FOR_PRUNE.format(images=images).encode(), prepare=False)
        [(acme,)] = conn.execute("SELECT id FROM organizations WHERE name = 'acme'").fetchall()
        repair_counters(conn, acme)
        environment = {"PATH": os.environ["PATH"], "DATABASE_URL": database.url}
        start = partial(
            subprocess.Popen, command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
        )
        with deployed(database.url) as service, clients(service.port, keys) as calls:
            for _ in range(kills):
                with start() as process:
                    running += kill_while_running(process, database)
                incorrect += len(find_incorrect_counters(conn, acme))
                half_deleted += database.execute(HALF_DELETED)[0][0]
            with start() as process:
                failed = process.wait() != 0
        incorrect += len(find_incorrect_counters(conn, acme))
        half_deleted += database.execute(HALF_DELETED)[0][0]
        left = database.execute(
            "SELECT (SELECT count(*) FROM images), (SELECT count(*) FROM scans)"
        )
    statuses = results(calls)
    return Outcome(
        f"{kills} runs killed, {running} of them before their end, and a last one, on {images} "
        f"images, during {len(calls)} reads",
        f"{incorrect} incorrect counters, {half_deleted} half deleted images, {left[0][0]} images "
        f"and {left[0][1]} scans left; responses {dict(statuses)}",
        not failed
        and running >= kills * 0.8
        and incorrect == half_deleted == 0
        and left == [(images // 4, images // 4)]
        and set(statuses) == {200},
    )


def kill_while_running(process: subprocess.Popen[bytes], database: Cluster) -> bool:
    """Kill a run of prune at a random moment after its first deletion; return if it still ran."""
    query = "SELECT count(*) FROM audit_log WHERE action = 'inventory.pruned'"
    before = database.execute(query)
    wait_until(lambda: process.poll() is not None or database.execute(query) > before)
    time.sleep(random.uniform(0, 0.3))
    is_running = process.poll() is None
    process.kill()
    return is_running


# -- processes


def workers_are_killed(count: int) -> Outcome:
    """P1: workers are killed with SIGKILL, one after the other, behind nginx."""
    pause, killed = 0.5, 0
    with cluster() as database:
        keys = seed(database.url)
        with (
            deployed(database.url) as service,
            wrk(service.port, keys, count * pause + 3) as loads,
        ):
            time.sleep(1)
            while killed < count:
                service.kill_worker()
                killed += 1
                time.sleep(pause)
    [load] = loads
    return Outcome(
        f"{killed} workers killed under {load.requests} requests",
        f"{load.failed} failed",
        load.failed == 0 and load.requests > 10 * count,
    )


def workers_are_replaced(seconds: float) -> Outcome:
    """P2: the service gets HUP every 2 s, and replaces each worker after about 300 requests."""
    hangups = 0
    settings = {"GUNICORN_CMD_ARGS": "--max-requests 300 --max-requests-jitter 50"}
    with cluster() as database:
        keys = seed(database.url)
        with (
            deployed(database.url, **settings) as service,
            wrk(service.port, keys, seconds, close=True) as loads,
        ):
            until = time.monotonic() + seconds - 1
            while time.monotonic() < until:
                time.sleep(2)
                service.process.send_signal(signal.SIGHUP)
                hangups += 1
    [load] = loads
    return Outcome(
        f"{hangups} SIGHUP signals, workers replaced after 300 requests, {load.requests} requests",
        f"{load.failed} failed",
        load.failed == 0 and hangups > 0,
    )


def service_restarts(seconds: float) -> Outcome:
    """P2: the service is stopped with TERM and started again; its socket stays open."""
    restarts = 0
    with cluster() as database, short_directory() as directory, nginx(directory) as port:
        keys = seed(database.url)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{directory}/harborguard.sock")
        allow_nginx(directory / "harborguard.sock")
        listener.listen(2048)
        with listener, ExitStack() as stack:
            stack.enter_context(running(start_on(listener, database.url), port))
            with wrk(port, keys, seconds) as loads:
                until = time.monotonic() + seconds - 3
                while time.monotonic() < until:
                    time.sleep(2)
                    stack.close()
                    stack.enter_context(running(start_on(listener, database.url), port))
                    restarts += 1
    [load] = loads
    return Outcome(
        f"{restarts} restarts on the same socket, {load.requests} requests",
        f"{load.failed} failed",
        load.failed == 0 and restarts > 0,
    )


def allow_nginx(path: Path) -> None:
    """Set the owner and mode of deploy/harborguard.socket, or allow everyone if not root."""
    unit = dict(re.findall(r"^(\w+)=(.+)$", UNIT.read_text(), re.MULTILINE))
    if os.geteuid() == 0:
        shutil.chown(path, unit["SocketUser"], unit["SocketGroup"])
        path.chmod(int(unit["SocketMode"], 8))
    else:
        path.chmod(0o666)


PASS_SOCKET = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def start_on(listener: socket.socket, url: str) -> subprocess.Popen[str]:
    """Start the service with a listening socket, as systemd does."""
    number = listener.fileno()
    command = [sys.executable, "-m", "gunicorn", "-c", PRODUCTION]
    return subprocess.Popen(
        [sys.executable, "-c", PASS_SOCKET, str(number), *command],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": url},
        pass_fds=[number],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def slow_clients(seconds: int, count: int = 200) -> list[Outcome]:
    """H8: one client is normal; the others send headers or bodies slowly, or read slowly."""
    command, outcomes = require_program("slowhttptest"), []
    with cluster() as database:
        keys = seed(database.url, images=200)
        with deployed(database.url) as service:
            for mode, kind in ("-H", "headers"), ("-B", "bodies"), ("-X", "readers"):
                with clients(service.port, keys, 1, pause=0.01) as normal:
                    time.sleep(seconds)
                attack = [command, mode, "-c", str(count), "-r", str(count), "-l", str(seconds)]
                attack += ["-i", "1", "-u", f"http://127.0.0.1:{service.port}/api/images?limit=200"]
                with clients(service.port, keys, 1, pause=0.01) as calls:
                    subprocess.run(attack, capture_output=True, timeout=seconds + 30)
                normal_p99, p99 = slowest(normal, 0.99), slowest(calls, 0.99)
                outcomes.append(
                    Outcome(
                        f"slow {kind}, {count} connections for {seconds} s",
                        f"p99 of the normal client {p99 * 1000:.0f} ms, without slow clients "
                        f"{normal_p99 * 1000:.0f} ms; responses {dict(results(calls))}",
                        set(results(calls)) == {200} and p99 < 2 * normal_p99,
                    )
                )
    return outcomes


def changes_are_polled(histories: int) -> Outcome:
    """C1: pollers read the changes of random histories, of which writers are killed."""
    totals: Counter[str] = Counter()
    differing = 0
    with cluster() as database:
        config = Config(database_url=database.url)
        with connect(config) as conn:
            migrate(conn)
        for seed in range(histories):
            result = run_history(config, seed)
            differing += bool(result.differences)
            totals.update(
                steps=result.steps, kills=result.kills, pages=result.pages, restarts=result.restarts
            )
    return Outcome(
        f"{histories} random histories of four writers, {totals['steps']} steps,"
        f" {totals['kills']} killed connections",
        f"the copy of a poller differs from the list in {differing} histories;"
        f" {totals['pages']} pages, {totals['restarts']} times 410",
        differing == 0 and totals["kills"] > 0 and totals["restarts"] > 0,
    )


def memory_is_flat(requests: int) -> Outcome:
    """P4: many requests leave memory, file descriptors and connections unchanged."""
    with cluster() as database:
        keys = seed(database.url)
        with deployed(database.url, **NO_RECYCLING) as service:
            with wrk(service.port, keys, 8) as loads:
                pass
            before, served = measure_resources(service, database), 0
            while served < requests:
                with wrk(service.port, keys, 20, connections=16) as more:
                    pass
                served += more[0].requests
                loads += more
            after = measure_resources(service, database)
    grown = (after[0] - before[0]) / 2
    failed = sum(load.failed for load in loads)
    return Outcome(
        f"{served} requests by two workers after a warm-up of {loads[0].requests}",
        f"{grown:+.1f} MB per worker; descriptors {before[1]} before, {after[1]} after; "
        f"connections {before[2]} before, {after[2]} after; {failed} failed",
        grown < 5 and abs(after[1] - before[1]) <= 4 and after[2] <= before[2] + 2 and failed == 0,
    )


def measure_resources(service: Service, database: Cluster) -> tuple[float, int, int]:
    """Return megabytes and descriptors of all workers, and their database connections."""
    megabytes, descriptors = 0.0, 0
    for pid in service.workers():
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        megabytes += pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        descriptors += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'harborguard'"
    return megabytes, descriptors, database.execute(query)[0][0]


def malformed_requests() -> list[Outcome]:
    """H1: malformed requests go to the service, to nginx, and to nginx without the service."""
    problems = []
    with cluster() as database:
        seed(database.url)
        with serving(DATABASE_URL=database.url) as service:
            problems.append(("the service alone", find_problems(service.port)))
        with deployed(database.url) as service:
            problems.append(("nginx and the service", find_problems(service.port)))
            while send(service.port, REQUESTS["DELETE"]).status != 429:
                pass
            problems.append(("nginx, by a client over the rate limit", find_problems(service.port)))
            service.stop()
            problems.append(("nginx without the service", find_problems(service.port)))
    return [
        Outcome(
            f"{len(REQUESTS)} raw requests to {target}",
            f"errors outside of the envelope: {found or 'none'}",
            not found,
        )
        for target, found in problems
    ]
