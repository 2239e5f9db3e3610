"""Schema migrations: concurrent, interrupted, edited and missing steps."""

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
    """Yield the URL of an empty database."""
    with scratch_database(server_url) as url:
        yield url


@pytest.fixture
def empty(url: str) -> Iterator[Connection]:
    """Yield a connection to an empty database."""
    with open_connection(url) as conn:
        yield conn


def open_connection(url: str) -> Connection:
    return connect(Config(database_url=url))


def applied_migrations(conn: Connection) -> list[tuple[int, str]]:
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


def test_migrate_empty_database_applies_all_migrations(empty: Connection, conn: Connection) -> None:
    assert [step.name for step in schema_state(empty).pending] == NAMES

    assert migrate(empty) == NAMES

    assert describe(empty) == describe(conn)
    assert schema_state(empty) == SchemaState(pending=[], unknown=[])
    assert applied_migrations(empty) == list(enumerate(NAMES, 1))


def test_repeated_migrate_changes_nothing(empty: Connection) -> None:
    migrate(empty)
    before = empty.execute("SELECT * FROM schema_migrations ORDER BY number").fetchall()
    assert migrate(empty) == []
    assert empty.execute("SELECT * FROM schema_migrations ORDER BY number").fetchall() == before


def test_migrate_applies_only_pending_migrations(empty: Connection) -> None:
    assert migrate(empty, [FIRST]) == ["0001_first"]
    assert schema_state(empty, [FIRST, SECOND]) == SchemaState(pending=[SECOND], unknown=[])
    assert migrate(empty, [FIRST, SECOND]) == ["0002_second"]
    assert empty.execute("SELECT id FROM second").fetchall() == [(7,)]


def test_migration_text_is_sent_without_placeholder_substitution(empty: Connection) -> None:
    step = Migration(1, "0001_literal", "CREATE TABLE t (a text DEFAULT '100 %s {} %% $1 :x')")
    migrate(empty, [step])
    assert empty.execute("INSERT INTO t DEFAULT VALUES RETURNING a").fetchone() == (
        "100 %s {} %% $1 :x",
    )


# concurrent runs


@pytest.mark.parametrize("attempt", range(5))
def test_concurrent_runs_apply_each_migration_once(
    url: str, conn: Connection, attempt: int
) -> None:
    gate = threading.Barrier(4)

    def run(_: int) -> list[str]:
        with open_connection(url) as runner:
            gate.wait(20)
            return migrate(runner)

    with ThreadPoolExecutor(4) as threads:
        applied = sorted(threads.map(run, range(4)))

    assert applied == [[], [], [], NAMES]
    with open_connection(url) as migrated:
        assert describe(migrated) == describe(conn)
        assert applied_migrations(migrated) == list(enumerate(NAMES, 1))


def test_waiting_run_awaits_no_lock_and_holds_no_snapshot(url: str, empty: Connection) -> None:
    """The run polls the advisory lock. A snapshot would hold back vacuum while the run waits."""
    with (
        open_connection(url) as slow,
        open_connection(url) as waiting,
        ThreadPoolExecutor(2) as threads,
    ):
        first = threads.submit(migrate, slow, [FIRST, SLOW])
        wait_until(lambda: runs_statement(empty, "pg_sleep(1)"))
        second = threads.submit(migrate, waiting, [FIRST, SLOW])
        samples = list(sample_backend(empty, waiting.info.backend_pid, first))
        assert second.result() == []
        assert first.result() == ["0001_first", "0002_slow"]
    assert len(samples) > 5
    assert {waits for _, waits, _ in samples} == {0}
    assert ("idle", 0, None) in samples
    assert {xmin for state, _, xmin in samples if state == "idle"} == {None}


def sample_backend(
    observer: Connection, pid: int, until: Future[list[str]]
) -> Iterator[tuple[str, int, str | None]]:
    """Yield a backend's state, number of awaited locks and snapshot xmin, repeatedly."""
    query = """
        SELECT state, backend_xmin::text,
            (SELECT count(*) FROM pg_locks WHERE pid = activity.pid AND NOT granted)
        FROM pg_stat_activity AS activity
        WHERE pid = %s
    """
    while not until.done():
        for state, xmin, waits in observer.execute(query, [pid]):
            yield state, waits, xmin
        time.sleep(0.01)


def test_wait_for_another_run_ends_after_the_timeout(url: str, empty: Connection) -> None:
    with open_connection(url) as slow, ThreadPoolExecutor(1) as threads:
        first = threads.submit(migrate, slow, [FIRST, SLOW])
        wait_until(lambda: runs_statement(empty, "pg_sleep(1)"))
        with pytest.raises(
            StoreUnavailable, match="Another migration is still running after 0 seconds"
        ):
            migrate(empty, [FIRST, SLOW], timeout=0.1)
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
    """Start a process that migrates, and send the byte that it waits for."""
    texts = repr([(step.name, step.text) for step in steps])
    command = [sys.executable, "-c", RUNNER, url, texts]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(b"x")
        process.stdin.flush()
        yield process


def test_kill_during_a_migration_leaves_only_complete_migrations(
    url: str, empty: Connection
) -> None:
    with runner(url, [FIRST, SLOW]) as process:
        wait_until(lambda: runs_statement(empty, "pg_sleep(1)"))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert applied_migrations(empty) == [(1, "0001_first")]
    assert tables(empty) == {"schema_migrations", "first"}

    # The server first ends the dead session's statement, then releases its lock.
    assert migrate(empty, [FIRST, SECOND]) == ["0002_second"]
    assert applied_migrations(empty) == [(1, "0001_first"), (2, "0002_second")]
    assert empty.execute("SELECT id FROM second").fetchall() == [(7,)]


@pytest.mark.parametrize("attempt", range(6))
def test_run_after_kill_at_a_random_moment_completes(
    url: str, conn: Connection, attempt: int
) -> None:
    with runner(url, read_migrations()) as process:
        time.sleep(random.uniform(0, 0.04))
        process.kill()
        process.wait()
    with open_connection(url) as survivor:
        migrate(survivor)
        assert describe(survivor) == describe(conn)
        assert applied_migrations(survivor) == list(enumerate(NAMES, 1))


def test_backend_terminated_during_a_migration_leaves_only_complete_migrations(
    url: str, empty: Connection
) -> None:
    with open_connection(url) as killed, ThreadPoolExecutor(1) as threads:
        applied = threads.submit(migrate, killed, [FIRST, SLOW])
        wait_until(lambda: runs_statement(empty, "pg_sleep(1)"))
        empty.execute("SELECT pg_terminate_backend(%s)", [killed.info.backend_pid])
        with pytest.raises(psycopg.OperationalError) as caught:
            applied.result()
    assert isinstance(translate_error(caught.value), StoreUnavailable)
    assert migrate(empty, [FIRST, SECOND]) == ["0002_second"]


def test_failed_migration_leaves_nothing_and_releases_the_lock(url: str, empty: Connection) -> None:
    failing = Migration(2, "0002_failing", "CREATE TABLE half (id integer); SELECT 1 / 0")
    with pytest.raises(sqlstate.DivisionByZero):
        migrate(empty, [FIRST, failing, Migration(3, "0003_third", "CREATE TABLE third ()")])
    assert tables(empty) == {"schema_migrations", "first"}
    assert schema_state(empty, [FIRST, SECOND]).pending == [SECOND]
    with open_connection(url) as other:
        # The first connection is still open, so only an explicit unlock releases the lock.
        assert migrate(other, [FIRST, SECOND], timeout=0) == ["0002_second"]


# concurrent readers


def test_migration_that_cannot_lock_a_table_fails_soon_and_unblocks_readers(
    url: str, empty: Connection
) -> None:
    alter = Migration(2, "0002_alter", "CREATE TABLE half (); ALTER TABLE first ADD name text")
    migrate(empty, [FIRST])
    with (
        open_connection(url) as reader,
        open_connection(url) as runner,
        open_connection(url) as second_reader,
        ThreadPoolExecutor(2) as threads,
    ):
        with reader.transaction():
            reader.execute("SELECT * FROM first")
            started = time.monotonic()
            applied = threads.submit(migrate, runner, [FIRST, alter])
            wait_until(lambda: runs_statement(empty, "ALTER TABLE first"))
            blocked = threads.submit(second_reader.execute, "SELECT * FROM first")
            reader.execute("SELECT * FROM first")
            with pytest.raises(sqlstate.LockNotAvailable) as caught:
                applied.result()
            assert blocked.result().fetchall() == []
            assert 4.5 < time.monotonic() - started < 20
        assert isinstance(translate_error(caught.value), StatementTimeout)
        assert tables(empty) == {"schema_migrations", "first"}
        assert migrate(runner, [FIRST, alter]) == ["0002_alter"]


def test_migration_has_a_lock_timeout_and_no_statement_timeout(empty: Connection) -> None:
    """The session's own settings are the same before and after the step."""
    text = """
        CREATE TABLE limits AS SELECT
            current_setting('lock_timeout') AS lock, current_setting('statement_timeout') AS run
    """
    before = empty.execute("SHOW statement_timeout").fetchone()
    migrate(empty, [Migration(1, "0001_limits", text)])
    assert empty.execute("SELECT lock, run FROM limits").fetchone() == ("5s", "0")
    assert empty.execute("SHOW statement_timeout").fetchone() == before
    assert empty.execute("SHOW lock_timeout").fetchone() == ("0",)


# edited, unknown and missing steps


def test_edited_migration_is_rejected(empty: Connection) -> None:
    migrate(empty, [FIRST])
    edited = Migration(1, "0001_first", f"{FIRST.text} -- edited")
    message = "The migration 0001_first was edited after it was applied."
    for function in (migrate, schema_state):
        with pytest.raises(SchemaMismatch, match=message):
            function(empty, [edited, SECOND])
    assert applied_migrations(empty) == [(1, "0001_first")]
    assert migrate(empty, [FIRST, SECOND]) == ["0002_second"]


def test_database_newer_than_the_release_is_rejected(empty: Connection) -> None:
    migrate(empty, [FIRST, SECOND])
    assert schema_state(empty, [FIRST]) == SchemaState(pending=[], unknown=[2])
    with pytest.raises(SchemaMismatch, match=r"newer than this release: it has migrations \[2\]\."):
        migrate(empty, [FIRST])
    assert applied_migrations(empty) == [(1, "0001_first"), (2, "0002_second")]


@pytest.mark.parametrize(
    "names",
    [
        ["0002_second"],
        ["0001_first", "0003_third"],
        ["0001_first", "0001_other"],
        ["0000_none", "0001_first"],
    ],
)
def test_migration_numbers_that_are_not_consecutive_are_rejected(names: list[str]) -> None:
    with pytest.raises(
        SchemaMismatch, match="The migrations are not numbered from 1 without gaps: "
    ):
        read_migrations(dict.fromkeys(names, "SELECT 1"))


def test_release_migrations_match_their_files() -> None:
    steps = read_migrations()
    assert [(step.number, step.name) for step in steps] == list(enumerate(NAMES, 1))
    assert {len(step.checksum) for step in steps} == {64}
    assert [step.text for step in steps] == [MIGRATIONS[name] for name in NAMES]
