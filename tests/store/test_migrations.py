"""The schema's way from empty to now: raced for, interrupted, edited, out of step."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import errors as sqlstate

from harborguard.config import Config
from harborguard.errors import SchemaMismatch, StatementTimeout, StoreUnavailable
from harborguard.store.connection import Connection, connect
from harborguard.store.errors import translate_error
from harborguard.store.migrations import (
    Migration,
    SchemaState,
    migrate,
    read_migrations,
    schema_state,
)
from harborguard.store.statements import MIGRATIONS
from tests.support.postgres import scratch_database
from tests.support.waiting import wait_until
from tests.tools.schema import describe

NAMES = sorted(MIGRATIONS)
FIRST = Migration(1, "0001_first", "CREATE TABLE first (id integer)")
SECOND = Migration(
    2, "0002_second", "CREATE TABLE second (id integer); INSERT INTO second VALUES (7)"
)
SLOW = Migration(2, "0002_slow", "CREATE TABLE second (id integer); SELECT pg_sleep(1)")


@pytest.fixture
def url(server_url: str) -> Iterator[str]:
    """A database of its own, empty."""
    with scratch_database(server_url) as url:
        yield url


@pytest.fixture
def empty(url: str) -> Iterator[Connection]:
    """A connection to an empty database."""
    with open_connection(url) as conn:
        yield conn


def open_connection(url: str) -> Connection:
    return connect(Config(database_url=url))


def ledger(conn: Connection) -> list[tuple[int, str]]:
    return conn.execute("SELECT number, name FROM schema_migrations ORDER BY number").fetchall()


def tables(conn: Connection) -> set[str]:
    query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    return {row[0] for row in conn.execute(query)}


def runs_statement(observer: Connection, text: str) -> bool:
    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()
            AND strpos(query, %s) > 0
    """
    row = observer.execute(query, [text]).fetchone()
    return row is not None and row[0] > 0


def test_it_works(empty: Connection, conn: Connection) -> None:
    assert [step.name for step in schema_state(empty).pending] == NAMES

    assert migrate(empty) == NAMES

    assert describe(empty) == describe(conn)
    assert schema_state(empty) == SchemaState(pending=[], unknown=[])
    assert ledger(empty) == list(enumerate(NAMES, 1))


def test_a_second_run_does_nothing(empty: Connection) -> None:
    migrate(empty)
    before = empty.execute("SELECT * FROM schema_migrations ORDER BY number").fetchall()
    assert migrate(empty) == []
    assert empty.execute("SELECT * FROM schema_migrations ORDER BY number").fetchall() == before


def test_a_new_step_is_applied_alone(empty: Connection) -> None:
    assert migrate(empty, [FIRST]) == ["0001_first"]
    assert schema_state(empty, [FIRST, SECOND]) == SchemaState(pending=[SECOND], unknown=[])
    assert migrate(empty, [FIRST, SECOND]) == ["0002_second"]
    assert empty.execute("SELECT id FROM second").fetchall() == [(7,)]


def test_a_step_is_taken_literally(empty: Connection) -> None:
    step = Migration(1, "0001_literal", "CREATE TABLE t (a text DEFAULT '100 %s {} %% $1 :x')")
    migrate(empty, [step])
    assert empty.execute("INSERT INTO t DEFAULT VALUES RETURNING a").fetchone() == (
        "100 %s {} %% $1 :x",
    )


# at the same time


@pytest.mark.parametrize("attempt", range(5))
def test_of_four_at_once_one_applies(url: str, conn: Connection, attempt: int) -> None:
    gate = threading.Barrier(4)

    def run(_: int) -> list[str]:
        with open_connection(url) as mine:
            gate.wait(20)
            return migrate(mine)

    with ThreadPoolExecutor(4) as threads:
        applied = sorted(threads.map(run, range(4)))

    assert applied == [[], [], [], NAMES]
    with open_connection(url) as migrated:
        assert describe(migrated) == describe(conn)
        assert ledger(migrated) == list(enumerate(NAMES, 1))


def test_a_runner_that_waits_holds_nothing(url: str, empty: Connection) -> None:
    """It polls: a lock it waited for, or a snapshot, would stop CREATE INDEX CONCURRENTLY."""
    with (
        open_connection(url) as slow,
        open_connection(url) as patient,
        ThreadPoolExecutor(2) as threads,
    ):
        first = threads.submit(migrate, slow, [FIRST, SLOW])
        wait_until(lambda: runs_statement(empty, "pg_sleep(1)"))
        second = threads.submit(migrate, patient, [FIRST, SLOW])
        seen = list(watch(empty, patient.info.backend_pid, first))
        assert second.result() == []
        assert first.result() == ["0001_first", "0002_slow"]
    assert len(seen) > 5
    # Whether it is asking or resting at the moment, it never waits for a lock.
    assert {waits for _, waits, _ in seen} == {0}
    assert ("idle", 0, None) in seen
    assert {horizon for state, _, horizon in seen if state == "idle"} == {None}


def watch(
    observer: Connection, pid: int, until: Future[list[str]]
) -> Iterator[tuple[str, int, str | None]]:
    """What a backend is doing, how many locks it waits for, and the snapshot that it holds."""
    query = """
        SELECT state, backend_xmin::text,
            (SELECT count(*) FROM pg_locks WHERE pid = activity.pid AND NOT granted)
        FROM pg_stat_activity AS activity
        WHERE pid = %s
    """
    while not until.done():
        for state, horizon, waits in observer.execute(query, [pid]):
            yield state, waits, horizon
        time.sleep(0.01)


def test_patience_ends(url: str, empty: Connection) -> None:
    with open_connection(url) as slow, ThreadPoolExecutor(1) as threads:
        first = threads.submit(migrate, slow, [FIRST, SLOW])
        wait_until(lambda: runs_statement(empty, "pg_sleep(1)"))
        with pytest.raises(StoreUnavailable, match="another migration has been running for 0 s"):
            migrate(empty, [FIRST, SLOW], patience=0.1)
        assert first.result() == ["0001_first", "0002_slow"]
    assert migrate(empty, [FIRST, SLOW]) == []


# interrupted

RUNNER = """
import sys
from harborguard.config import Config
from harborguard.store.migrations import Migration, migrate
from harborguard.store.connection import connect
with connect(Config(database_url=sys.argv[1])) as conn:
    steps = [Migration(int(name[:4]), name, text) for name, text in eval(sys.argv[2])]
    print("ready", flush=True)
    sys.stdin.read(1)
    migrate(conn, steps)
    print("done", flush=True)
"""


@contextmanager
def runner(url: str, steps: list[Migration]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is about to migrate; it begins with the first byte it is sent."""
    texts = repr([(step.name, step.text) for step in steps])
    command = [sys.executable, "-c", RUNNER, url, texts]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(b"x")
        process.stdin.flush()
        yield process


def test_a_runner_killed_in_a_step_leaves_whole_steps(url: str, empty: Connection) -> None:
    with runner(url, [FIRST, SLOW]) as process:
        wait_until(lambda: runs_statement(empty, "pg_sleep(1)"))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert ledger(empty) == [(1, "0001_first")]
    assert tables(empty) == {"schema_migrations", "first"}

    # The server ends the dead runner's step, and then its lock.
    assert migrate(empty, [FIRST, SECOND]) == ["0002_second"]
    assert ledger(empty) == [(1, "0001_first"), (2, "0002_second")]
    assert empty.execute("SELECT id FROM second").fetchall() == [(7,)]


@pytest.mark.parametrize("attempt", range(6))
def test_a_runner_killed_at_any_moment(url: str, conn: Connection, attempt: int) -> None:
    with runner(url, read_migrations()) as process:
        time.sleep(random.uniform(0, 0.04))
        process.kill()
        process.wait()
    with open_connection(url) as survivor:
        migrate(survivor)
        assert describe(survivor) == describe(conn)
        assert ledger(survivor) == list(enumerate(NAMES, 1))


def test_a_backend_that_ends_in_a_step_leaves_whole_steps(url: str, empty: Connection) -> None:
    with open_connection(url) as doomed, ThreadPoolExecutor(1) as threads:
        applied = threads.submit(migrate, doomed, [FIRST, SLOW])
        wait_until(lambda: runs_statement(empty, "pg_sleep(1)"))
        empty.execute("SELECT pg_terminate_backend(%s)", [doomed.info.backend_pid])
        with pytest.raises(psycopg.OperationalError) as caught:
            applied.result()
    assert isinstance(translate_error(caught.value), StoreUnavailable)
    assert migrate(empty, [FIRST, SECOND]) == ["0002_second"]


def test_a_step_that_fails_leaves_nothing(url: str, empty: Connection) -> None:
    bad = Migration(2, "0002_bad", "CREATE TABLE half (id integer); SELECT 1 / 0")
    with pytest.raises(sqlstate.DivisionByZero):
        migrate(empty, [FIRST, bad, Migration(3, "0003_third", "CREATE TABLE third ()")])
    assert tables(empty) == {"schema_migrations", "first"}
    assert schema_state(empty, [FIRST, SECOND]).pending == [SECOND]
    with open_connection(url) as other:
        # The lock was given back, though the connection lives on.
        assert migrate(other, [FIRST, SECOND], patience=0) == ["0002_second"]


# beside readers


def test_a_step_gives_way_to_readers(url: str, empty: Connection) -> None:
    alter = Migration(2, "0002_alter", "CREATE TABLE half (); ALTER TABLE first ADD name text")
    migrate(empty, [FIRST])
    with (
        open_connection(url) as reader,
        open_connection(url) as runner,
        open_connection(url) as latecomer,
        ThreadPoolExecutor(2) as threads,
    ):
        with reader.transaction():
            reader.execute("SELECT * FROM first")
            started = time.monotonic()
            applied = threads.submit(migrate, runner, [FIRST, alter])
            wait_until(lambda: runs_statement(empty, "ALTER TABLE first"))
            late = threads.submit(latecomer.execute, "SELECT * FROM first")
            reader.execute("SELECT * FROM first")
            with pytest.raises(sqlstate.LockNotAvailable) as caught:
                applied.result()
            assert late.result().fetchall() == []
            assert 4.5 < time.monotonic() - started < 20
        assert isinstance(translate_error(caught.value), StatementTimeout)
        assert tables(empty) == {"schema_migrations", "first"}
        assert migrate(runner, [FIRST, alter]) == ["0002_alter"]


def test_a_step_may_take_long(empty: Connection) -> None:
    """The limits are the runner's own, and no other statement's after it."""
    text = """
        CREATE TABLE limits AS SELECT
            current_setting('lock_timeout') AS lock, current_setting('statement_timeout') AS run
    """
    before = empty.execute("SHOW statement_timeout").fetchone()
    migrate(empty, [Migration(1, "0001_limits", text)])
    assert empty.execute("SELECT lock, run FROM limits").fetchone() == ("5s", "0")
    assert empty.execute("SHOW statement_timeout").fetchone() == before
    assert empty.execute("SHOW lock_timeout").fetchone() == ("0",)


# out of step


def test_a_step_that_was_edited_is_refused(empty: Connection) -> None:
    migrate(empty, [FIRST])
    edited = Migration(1, "0001_first", f"{FIRST.text} -- edited")
    refusal = "migration 0001_first was edited after it had been applied"
    for refused in (migrate, schema_state):
        with pytest.raises(SchemaMismatch, match=refusal):
            refused(empty, [edited, SECOND])
    assert ledger(empty) == [(1, "0001_first")]
    assert migrate(empty, [FIRST, SECOND]) == ["0002_second"]


def test_a_database_that_is_ahead(empty: Connection) -> None:
    migrate(empty, [FIRST, SECOND])
    assert schema_state(empty, [FIRST]) == SchemaState(pending=[], unknown=[2])
    with pytest.raises(SchemaMismatch, match=r"newer than this release \(it has steps \[2\]\)"):
        migrate(empty, [FIRST])
    assert ledger(empty) == [(1, "0001_first"), (2, "0002_second")]


@pytest.mark.parametrize(
    "names",
    [
        ["0002_second"],
        ["0001_first", "0003_third"],
        ["0001_first", "0001_other"],
        ["0000_none", "0001_first"],
    ],
)
def test_a_gap_in_the_numbers_is_refused(names: list[str]) -> None:
    with pytest.raises(SchemaMismatch, match=r"migrations are not numbered 1\.\.n"):
        read_migrations(dict.fromkeys(names, "SELECT 1"))


def test_the_steps_of_this_release() -> None:
    steps = read_migrations()
    assert [(step.number, step.name) for step in steps] == list(enumerate(NAMES, 1))
    assert {len(step.checksum) for step in steps} == {64}
    assert [step.text for step in steps] == [MIGRATIONS[name] for name in NAMES]
