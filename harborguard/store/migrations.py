"""Schema migrations: apply each file of sql/migrations once, in order of its number."""

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

_LOCK = 0x48_47_49_4D  # advisory lock; "HGIM" in ASCII, to differ from other programs' locks
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
    """A numbered step of the schema."""

    number: int
    name: str
    text: LiteralString

    @property
    def checksum(self) -> str:
        """Return the SHA-256 of the text, which detects a step edited after it was applied."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Difference between a database and this release.

    `pending` steps are not applied yet; `unknown` numbers come from a newer release.
    """

    pending: list[Migration]
    unknown: list[int]


def read_migrations(texts: dict[str, LiteralString] | None = None) -> list[Migration]:
    """Return this release's steps in order; raise SchemaMismatch if the numbers have a gap."""
    named = sorted((MIGRATIONS if texts is None else texts).items())
    steps = [Migration(int(name[:4]), name, text) for name, text in named]
    if [step.number for step in steps] != list(range(1, len(steps) + 1)):
        raise SchemaMismatch(f"migrations are not numbered 1..n: {[s.name for s in steps]}")
    return steps


def schema_state(conn: Connection, steps: list[Migration] | None = None) -> SchemaState:
    """Compare the database with this release; raise SchemaMismatch if a step was edited."""
    steps = read_migrations() if steps is None else steps
    applied = _read_checksums(conn)
    for step in steps:
        if applied.get(step.number, step.checksum) != step.checksum:
            raise SchemaMismatch(f"migration {step.name} was edited after it was applied")
    known = {step.number for step in steps}
    return SchemaState(
        pending=[step for step in steps if step.number not in applied],
        unknown=sorted(applied.keys() - known),
    )


def migrate(
    conn: Connection, steps: list[Migration] | None = None, *, timeout: float = 60
) -> list[str]:
    """Apply the pending steps and return their names.

    Concurrent calls are safe: one applies the steps, the others wait up to `timeout` seconds. Each
    step and its row in schema_migrations are one transaction, so an interrupted step leaves
    nothing. Raise SchemaMismatch if the database is newer than this release or a step was edited,
    StoreUnavailable after the timeout.
    """
    with _lock(conn, timeout):
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


def _read_checksums(conn: Connection) -> dict[int, str]:
    """Return the checksums of the applied steps by number."""
    try:
        return dict(conn.execute("SELECT number, checksum FROM schema_migrations").fetchall())
    except sqlstate.UndefinedTable:
        return {}


def _apply(conn: Connection, step: Migration) -> None:
    with conn.transaction():
        # Readers queue behind a step that waits for a table lock. Fail soon instead; the operator
        # runs the command again.
        conn.execute("SET LOCAL lock_timeout = '5s'")
        conn.execute("SET LOCAL statement_timeout = 0")
        conn.execute(step.text, prepare=False)  # a prepared statement holds one command
        conn.execute(
            "INSERT INTO schema_migrations (number, name, checksum) VALUES (%s, %s, %s)",
            (step.number, step.name, step.checksum),
        )


@contextmanager
def _lock(conn: Connection, timeout: float) -> Iterator[None]:
    # Poll the lock. A waiting pg_advisory_lock() holds a snapshot, and CREATE INDEX CONCURRENTLY
    # in the other session waits for all older snapshots: a deadlock.
    deadline = time.monotonic() + timeout
    while not _try_lock(conn):
        if time.monotonic() > deadline:
            raise StoreUnavailable(f"another migration has been running for {timeout:.0f} s")
        time.sleep(0.1)
    try:
        yield
    finally:
        if not conn.closed:
            conn.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def _try_lock(conn: Connection) -> bool:
    row = conn.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
    return row is not None and row[0]
