"""The faults, each in any size: the suite runs them in small, tests/soak.py in full."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harborguard.config import Config
from harborguard.store.errors import translate_error
from harborguard.store.pool import Pool, make_pool
from tests.support.fault_injection import (
    Call,
    Cluster,
    callers,
    cluster,
    deployed,
    need,
    nginx,
    pgbouncer,
    relay_to,
    replica_of,
    results,
    seed,
    short_directory,
    wrk,
)
from tests.support.raw_requests import REQUESTS, complaints, send
from tests.support.service import PRODUCTION, ROOT, Service, running, serving
from tests.support.waiting import wait_until

UNIT = ROOT / "deploy/harborguard.socket"
# A worker that is replaced in the middle would be taken for one that died.
STEADY = {"GUNICORN_CMD_ARGS": "--max-requests 0"}
# How many times slower than is promised still passes: 1 on a quiet machine, more where other tests
# take the processors meanwhile.
SLACK = 1.0


@dataclass(frozen=True)
class Outcome:
    """What was done, what was found, and whether that is what is promised."""

    did: str
    found: str
    is_kept: bool


def slowest(calls: list[Call], share: float = 1.0) -> float:
    """The seconds that this share of the calls stayed within."""
    ordered = sorted(call.took for call in calls)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0


def first_success(calls: list[Call], since: float) -> float:
    """Seconds from a moment until somebody had an answer of 200; waits for it."""

    def after() -> list[float]:
        return [c.ended for c in calls[-2000:] if c.result == 200 and c.ended > since]

    wait_until(after)
    return min(after()) - since


# the database


def database_stops(cycles: int) -> Outcome:
    """D1: stopped at once, as by `pg_ctl stop -m immediate`, under load, and started again."""
    refusals: list[Call] = []
    back: list[float] = []
    with cluster() as database:
        keys = seed(database.url)
        with deployed(database.url, **STEADY) as service, callers(service.port, keys) as calls:
            workers = service.workers()
            for cycle in range(cycles):
                wait_until(lambda: results(calls[-20:])[200] == 20)
                stopped = time.monotonic()
                database.stop()
                # Now and then for longer than anything waits: what gives up must begin anew.
                time.sleep(15 if cycle % 10 == 0 else random.uniform(1, 3))
                database.start()
                started = time.monotonic()
                back.append(first_success(calls, started))
                refusals += [c for c in calls if stopped < c.began < started and c.result == 503]
            same = service.workers() == workers
    found = results(calls)
    return Outcome(
        f"{cycles} stops under {len(calls)} requests",
        f"answers {dict(found)}; slowest 503 {slowest(refusals):.2f} s, "
        f"first 200 at most {max(back):.2f} s after the database; "
        f"{'no process restarted' if same else 'A PROCESS RESTARTED'}",
        set(found) <= {200, 503}
        and slowest(refusals) < 2.5 * SLACK
        and max(back) < 2 * SLACK
        and len(refusals) > 0
        and same,
    )


def backends_die(seconds: float) -> Outcome:
    """D2: ten of the service's connections a second end by `pg_terminate_backend`."""
    kill = """
        SELECT pg_terminate_backend(pid) FROM (
            SELECT pid FROM pg_stat_activity
            WHERE application_name = 'harborguard' ORDER BY random() LIMIT 1
        ) AS backend
    """
    killed = 0
    with cluster() as database:
        keys = seed(database.url)
        with deployed(database.url) as service, callers(service.port, keys, pause=0.002) as calls:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                killed += len(database.ask(kill))
                time.sleep(0.09)
    found = results(calls)
    return Outcome(
        f"{killed} connections killed in {seconds:.0f} s under {len(calls)} requests",
        f"answers {dict(found)}",
        set(found) <= {200, 503} and found[503] <= len(calls) / 1000 and killed > 5 * seconds,
    )


def database_is_silent(seconds: float) -> Outcome:
    """D3: nothing comes back from the database, while TCP acknowledges all that is sent."""
    with cluster() as database, relay_to(database) as (relay, url):
        keys = seed(database.url)
        with deployed(url, **STEADY) as service, callers(service.port, keys, 8) as calls:
            wait_until(lambda: results(calls)[200] > 50)
            before = sum(map(threads_of, service.workers()))
            relay.speaks.clear()
            began = time.monotonic()
            time.sleep(seconds)
            relay.speaks.set()
            over = time.monotonic()
            back = first_success(calls, over)
            wait_until(lambda: results(calls[-100:])[200] == 100)
            after = sum(map(threads_of, service.workers()))
    hit = [c for c in calls if began - 0.5 < c.began < over and c.result != 200]
    found = results(calls)
    return Outcome(
        f"{seconds:.0f} s of silence under {len(calls)} requests by 8 callers",
        f"answers {dict(found)}; slowest refusal {slowest(hit):.2f} s, first 200 {back:.2f} s "
        f"after the silence; threads of the workers {before} before, {after} after",
        set(found) <= {200, 503, 504}
        and slowest(hit) < 5 * SLACK
        and back < 3 * SLACK
        and after <= before,
    )


def threads_of(pid: int) -> int:
    """How many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def replica_is_promoted() -> Outcome:
    """D5: a URL with two hosts outlives its primary, once the replica has been promoted."""
    with ExitStack() as stack:
        primary = stack.enter_context(cluster())
        keys = seed(primary.url)
        replica = stack.enter_context(replica_of(primary))
        hosts = f"{primary.sockets},{replica.sockets}"
        url = f"postgresql://harborguard@/harborguard?host={hosts}&port=5432,5432"
        url += "&target_session_attrs=read-write"
        with deployed(url, **STEADY) as service, callers(service.port, keys) as calls:
            wait_until(lambda: results(calls)[200] > 50)
            primary.stop()
            time.sleep(1)
            promoted = time.monotonic()
            replica.ask("SELECT pg_promote()")
            back = first_success(calls, promoted)
    found = results(calls)
    return Outcome(
        f"the primary stopped, the replica promoted, under {len(calls)} requests",
        f"answers {dict(found)}; first 200 {back:.2f} s after the promotion",
        set(found) <= {200, 503} and back < 5 * SLACK,
    )


def more_callers_than_connections(seconds: float, count: int = 200) -> Outcome:
    """D7: a pool of two connections, and callers in threads who come back when refused."""

    def ask(pool: Pool, until: float) -> list[Call]:
        made = []
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                with pool.connection() as conn:
                    conn.execute("SELECT pg_sleep(0.02)")
                made.append(Call(began, time.monotonic() - began, 200))
            except Exception as error:
                known = translate_error(error)
                made.append(Call(began, time.monotonic() - began, getattr(known, "code", "FAULT")))
                time.sleep(0.5)
        return made

    with cluster() as database, make_pool(Config(database_url=database.url)) as pool:
        few, many = (crowd(partial(ask, pool), size, seconds) for size in (pool.max_size, count))
    refused = [c for c in many if c.result != 200]
    served = results(many)[200] / results(few)[200]
    return Outcome(
        f"{count} callers of a pool of {pool.max_size} for {seconds:.0f} s",
        f"{dict(results(many))}; slowest refusal {slowest(refused):.2f} s; "
        f"{served:.0%} of the throughput of {pool.max_size} callers",
        set(results(many)) == {200, "SERVICE_UNAVAILABLE"}
        and slowest(refused) < 2.5 * SLACK
        and served >= 0.8 / SLACK,
    )


def crowd(ask: Callable[[float], list[Call]], size: int, seconds: float) -> list[Call]:
    """What `size` threads got, all asking at once."""
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(size) as threads:
        return [made for part in threads.map(ask, [until] * size) for made in part]


def more_callers_than_workers(seconds: float, count: int = 200) -> Outcome:
    """D7: the whole service, whose workers take one request each."""
    with cluster() as database:
        keys = seed(database.url)
        with deployed(database.url) as service:
            with wrk(service.port, keys, seconds) as few:
                pass
            with wrk(service.port, keys, seconds, connections=count) as many:
                pass
    served = many[0].per_second / few[0].per_second
    return Outcome(
        f"{count} callers of two workers for {seconds:.0f} s, {many[0].requests} requests",
        f"{many[0].failed} failed, p99 {many[0].p99_ms / 1000:.2f} s; {served:.0%} of the "
        f"throughput of 8 callers",
        many[0].failed == 0 and many[0].p99_ms < 2500 * SLACK and served >= 0.8 / SLACK,
    )


RUNNER = """
import sys
from harborguard.config import Config
from harborguard.store.migrations import Migration, migrate, read_migrations
from harborguard.store.connection import connect
steps = read_migrations()
for number in range(len(steps) + 1, len(steps) + 1 + int(sys.argv[2])):
    text = f"ALTER TABLE images ADD step_{number} integer; CREATE INDEX ON images (step_{number})"
    steps.append(Migration(number, f"{number:04}_more", text))
with connect(Config(database_url=sys.argv[1])) as conn:
    print("ready", flush=True)
    sys.stdin.read(1)
    migrate(conn, steps)
"""


@contextmanager
def migrations(url: str, extra: int, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Runners about to bring a database to `extra` steps beyond this release, let go at once."""
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", RUNNER, url, str(extra)],
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
    """D10: four runners at once, and runners killed at a random moment, beside live reads."""
    failed = 0
    with cluster() as database:
        keys = seed(database.url)
        with deployed(database.url) as service, callers(service.port, keys) as calls:
            for number in range(1, rounds + 1):
                with migrations(database.url, number, 4) as runners:
                    failed += sum(runner.wait() != 0 for runner in runners)
            for number in range(rounds + 1, rounds + kills + 1):
                with migrations(database.url, number, 1) as [runner]:
                    time.sleep(random.uniform(0, 0.03))
                    runner.kill()
            with migrations(database.url, rounds + kills, 1) as [runner]:
                failed += runner.wait() != 0
        broken = database.ask("SELECT count(*) FROM pg_index WHERE NOT indisvalid")[0][0]
        [(steps, last)] = database.ask("SELECT count(*), max(number) FROM schema_migrations")
    found = results(calls)
    return Outcome(
        f"{rounds} rounds of 4 runners at once, {kills} runners killed, beside {len(calls)} reads",
        f"{failed} runners failed, {broken} invalid indexes, steps 1 to {last} each "
        f"{'once' if steps == last else 'NOT ONCE'}; answers {dict(found)}",
        failed == 0 and broken == 0 and steps == last and set(found) == {200},
    )


def through_a_pooler(tests: list[str]) -> Outcome:
    """D11: the API's own tests through pgbouncer in transaction mode."""
    with cluster() as database, pgbouncer(database) as port:
        database.ask("ALTER ROLE harborguard CREATEDB")
        database.ask("GRANT SET ON PARAMETER deadlock_timeout TO harborguard")  # for a test of it
        for statement in role_settings():
            database.ask(statement)
        environment = {
            "PATH": os.environ["PATH"],
            "HARBORGUARD_TEST_DATABASE_URL": database.url,
            "HARBORGUARD_TEST_POOLER": f"127.0.0.1:{port}",
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    version = subprocess.run([need("pgbouncer"), "--version"], capture_output=True, text=True)
    return Outcome(
        f"{' '.join(tests)} through {version.stdout.splitlines()[0]}, transaction mode",
        done.stdout.strip().splitlines()[-1],
        done.returncode == 0,
    )


def role_settings() -> list[str]:
    """The lines of docs/operations.md that stand for what a pooler does not pass on."""
    lines = (ROOT / "docs/operations.md").read_text().splitlines()
    return [line.strip() for line in lines if line.strip().startswith("ALTER ROLE harborguard SET")]


# the processes


def workers_are_killed(count: int) -> Outcome:
    """P1: workers end by `kill -9`, one after the other, behind nginx."""
    pause, killed = 0.5, 0
    with cluster() as database:
        keys = seed(database.url)
        with (
            deployed(database.url) as service,
            wrk(service.port, keys, count * pause + 3) as loads,
        ):
            time.sleep(1)
            while killed < count:
                service.kill_a_worker()
                killed += 1
                time.sleep(pause)
    [load] = loads
    return Outcome(
        f"{killed} workers killed under {load.requests} requests",
        f"{load.failed} failed",
        load.failed == 0 and load.requests > 10 * count,
    )


def workers_are_replaced(seconds: float) -> Outcome:
    """P2: HUP every other second, and each worker replaced after about 300 requests."""
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
        f"{hangups} HUP, a new worker every 300 requests, {load.requests} requests",
        f"{load.failed} failed",
        load.failed == 0 and hangups > 0,
    )


def service_restarts(seconds: float) -> Outcome:
    """P2: TERM and a new start, the socket kept by somebody else as systemd keeps it."""
    restarts = 0
    with cluster() as database, short_directory() as directory, nginx(directory) as port:
        keys = seed(database.url)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{directory}/harborguard.sock")
        give_to_nginx(directory / "harborguard.sock")
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
        f"{restarts} times TERM and start on the same socket, {load.requests} requests",
        f"{load.failed} failed",
        load.failed == 0 and restarts > 0,
    )


def give_to_nginx(path: Path) -> None:
    """Makes a socket's owner and mode those of deploy/harborguard.socket, where we may."""
    told = dict(re.findall(r"^(\w+)=(.+)$", UNIT.read_text(), re.MULTILINE))
    if os.geteuid() == 0:
        shutil.chown(path, told["SocketUser"], told["SocketGroup"])
        path.chmod(int(told["SocketMode"], 8))
    else:
        path.chmod(0o666)


HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def start_on(listener: socket.socket, url: str) -> subprocess.Popen[str]:
    """The service, handed a listening socket in systemd's way."""
    number = listener.fileno()
    command = [sys.executable, "-m", "gunicorn", "-c", PRODUCTION]
    return subprocess.Popen(
        [sys.executable, "-c", HAND_OVER, str(number), *command],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": url},
        pass_fds=[number],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def slow_clients(seconds: int, count: int = 200) -> list[Outcome]:
    """H8: slow headers, slow bodies and slow readers, beside one good client."""
    command, outcomes = need("slowhttptest"), []
    with cluster() as database:
        keys = seed(database.url, images=200)
        with deployed(database.url) as service:
            for mode, kind in ("-H", "headers"), ("-B", "bodies"), ("-X", "readers"):
                with callers(service.port, keys, 1, pause=0.01) as normal:
                    time.sleep(seconds)
                attack = [command, mode, "-c", str(count), "-r", str(count), "-l", str(seconds)]
                attack += ["-i", "1", "-u", f"http://127.0.0.1:{service.port}/api/images?limit=200"]
                with callers(service.port, keys, 1, pause=0.01) as calls:
                    subprocess.run(attack, capture_output=True, timeout=seconds + 30)
                usual, now = slowest(normal, 0.99), slowest(calls, 0.99)
                outcomes.append(
                    Outcome(
                        f"slow {kind}, {count} connections for {seconds} s",
                        f"the good client's p99 {now * 1000:.0f} ms, normally "
                        f"{usual * 1000:.0f} ms; answers {dict(results(calls))}",
                        set(results(calls)) == {200} and now < 2 * usual,
                    )
                )
    return outcomes


def memory_is_flat(requests: int) -> Outcome:
    """P4, P5: resident memory, descriptors and connections before and after many requests."""
    with cluster() as database:
        keys = seed(database.url)
        with deployed(database.url, **STEADY) as service:
            with wrk(service.port, keys, 8) as loads:
                pass
            before, served = weight(service, database), 0
            while served < requests:
                with wrk(service.port, keys, 20, connections=16) as more:
                    pass
                served += more[0].requests
                loads += more
            after = weight(service, database)
    grown = (after[0] - before[0]) / 2
    failed = sum(load.failed for load in loads)
    return Outcome(
        f"{served} requests by two workers after a warm-up of {loads[0].requests}",
        f"{grown:+.1f} MB a worker; descriptors {before[1]} before, {after[1]} after; connections "
        f"{before[2]} before, {after[2]} after; {failed} failed",
        grown < 5 and abs(after[1] - before[1]) <= 4 and after[2] <= before[2] + 2 and failed == 0,
    )


def weight(service: Service, database: Cluster) -> tuple[float, int, int]:
    """Megabytes and descriptors of all workers, and the database's connections with them."""
    megabytes, descriptors = 0.0, 0
    for pid in service.workers():
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        megabytes += pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        descriptors += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'harborguard'"
    return megabytes, descriptors, database.ask(query)[0][0]


def odd_requests() -> list[Outcome]:
    """H1: the corpus against the service alone, behind nginx, and nginx with the service down."""
    found = []
    with cluster() as database:
        seed(database.url)
        with serving(DATABASE_URL=database.url) as service:
            found.append(("the service alone", complaints(service.port)))
        with deployed(database.url) as service:
            found.append(("nginx and the service", complaints(service.port)))
            while send(service.port, REQUESTS["DELETE"]).status != 429:
                pass
            found.append(("nginx, of a caller over the rate", complaints(service.port)))
            service.end()
            found.append(("nginx with the service down", complaints(service.port)))
    return [
        Outcome(
            f"{len(REQUESTS)} raw requests, {where}", f"outside of the envelope: {bad}", not bad
        )
        for where, bad in found
    ]
