"""The schema's way from empty to now: sql/migrations, applied once each, in order."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString

from psycopg import errors as sqlstate

from harborguard.errors import SchemaMismatch, StoreUnavailable
from harborguard.store.connection import Connection
from harborguard.store.statements import MIGRATIONS

_LOCK = 0x48_47_49_4D  # "HGIM": any number that other programs on this database do not lock
OUT_OF_DATE = "The database's schema is older than this release; run: harborguard migrate"
_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step of the schema: `checksum` is the SHA-256 of its text."""

    number: int
    name: str
    text: LiteralString

    @property
    def checksum(self) -> str:
        """What tells whether an applied step has been edited since."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Where a database stands: steps it lacks, and steps it has that this release does not know."""

    pending: list[Migration]
    unknown: list[int]


def read_migrations(texts: dict[str, LiteralString] | None = None) -> list[Migration]:
    """The steps of this release in order; raises SchemaMismatch where the numbers have a gap."""
    named = sorted((MIGRATIONS if texts is None else texts).items())
    steps = [Migration(int(name[:4]), name, text) for name, text in named]
    if [step.number for step in steps] != list(range(1, len(steps) + 1)):
        raise SchemaMismatch(f"migrations are not numbered 1..n: {[s.name for s in steps]}")
    return steps


def schema_state(conn: Connection, steps: list[Migration] | None = None) -> SchemaState:
    """Compares the database with this release; raises SchemaMismatch for an edited step."""
    steps = read_migrations() if steps is None else steps
    applied = _applied(conn)
    for step in steps:
        if applied.get(step.number, step.checksum) != step.checksum:
            raise SchemaMismatch(f"migration {step.name} was edited after it had been applied")
    known = {step.number for step in steps}
    return SchemaState(
        pending=[step for step in steps if step.number not in applied],
        unknown=sorted(applied.keys() - known),
    )


def migrate(
    conn: Connection, steps: list[Migration] | None = None, *, patience: float = 60
) -> list[str]:
    """Applies what is pending and answers with the names; any number of callers may race.

    `patience` is how many seconds to wait for another runner. Each step and its row in the ledger
    are one transaction, so a killed runner leaves whole steps only.
    """
    with _lock(conn, patience):
        conn.execute(_LEDGER)
        state = schema_state(conn, steps)
        if state.unknown:
            raise SchemaMismatch(
                f"the database is newer than this release (it has steps {state.unknown}); "
                "run the migrations of the newer release"
            )
        for step in state.pending:
            _apply(conn, step)
        return [step.name for step in state.pending]


def _applied(conn: Connection) -> dict[int, str]:
    try:
        return dict(conn.execute("SELECT number, checksum FROM schema_migrations").fetchall())
    except sqlstate.UndefinedTable:
        return {}


def _apply(conn: Connection, step: Migration) -> None:
    with conn.transaction():
        # A step that cannot get its lock gives way to the readers and is tried again by hand;
        # waiting would queue every reader behind it.
        conn.execute("SET LOCAL lock_timeout = '5s'")
        conn.execute("SET LOCAL statement_timeout = 0")
        conn.execute(step.text, prepare=False)  # many statements are no prepared one
        conn.execute(
            "INSERT INTO schema_migrations (number, name, checksum) VALUES (%s, %s, %s)",
            (step.number, step.name, step.checksum),
        )


@contextmanager
def _lock(conn: Connection, patience: float) -> Iterator[None]:
    # Polled, never waited for: a waiting pg_advisory_lock holds a snapshot, and another runner's
    # CREATE INDEX CONCURRENTLY waits for all snapshots, which is a deadlock.
    deadline = time.monotonic() + patience
    while not _try_lock(conn):
        if time.monotonic() > deadline:
            raise StoreUnavailable(f"another migration has been running for {patience:.0f} s")
        time.sleep(0.1)
    try:
        yield
    finally:
        if not conn.closed:
            conn.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def _try_lock(conn: Connection) -> bool:
    row = conn.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
    return row is not None and row[0]
