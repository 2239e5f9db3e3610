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
OUT_OF_DATE = "The database schema is older than this release. Run: harborguard migrate"
_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """A numbered change of the schema."""

    number: int
    name: str
    text: LiteralString

    @property
    def checksum(self) -> str:
        """The SHA-256 of the text, which detects an edit after the migration was applied."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Difference between a database and this release.

    `pending` migrations are not applied yet. `unknown` are numbers of applied migrations that this
    release does not have.
    """

    pending: list[Migration]
    unknown: list[int]


def read_migrations(texts: dict[str, LiteralString] | None = None) -> list[Migration]:
    """Return this release's migrations in order; raise SchemaMismatch if the numbers have a gap."""
    files = sorted((MIGRATIONS if texts is None else texts).items())
    migrations = [Migration(int(name[:4]), name, text) for name, text in files]
    if [migration.number for migration in migrations] != list(range(1, len(migrations) + 1)):
        names = ", ".join(migration.name for migration in migrations)
        raise SchemaMismatch(f"The migrations are not numbered from 1 without gaps: {names}.")
    return migrations


def schema_state(conn: Connection, migrations: list[Migration] | None = None) -> SchemaState:
    """Compare the database with this release; raise SchemaMismatch if a migration was edited."""
    migrations = read_migrations() if migrations is None else migrations
    applied = _read_checksums(conn)
    for migration in migrations:
        if applied.get(migration.number, migration.checksum) != migration.checksum:
            raise SchemaMismatch(f"The migration {migration.name} was edited after it was applied.")
    known = {migration.number for migration in migrations}
    return SchemaState(
        pending=[migration for migration in migrations if migration.number not in applied],
        unknown=sorted(applied.keys() - known),
    )


def migrate(
    conn: Connection, migrations: list[Migration] | None = None, *, timeout: float = 60
) -> list[str]:
    """Apply the pending migrations and return their names.

    Concurrent calls are safe: one applies the migrations, the others wait up to `timeout` seconds.
    Each migration and its row in schema_migrations are one transaction, so an interrupted migration
    changes nothing. Raise SchemaMismatch if the database is newer than this release or a migration
    was edited, and StoreUnavailable after the timeout.
    """
    with _lock(conn, timeout):
        conn.execute(_CREATE_TABLE)
        state = schema_state(conn, migrations)
        if state.unknown:
            raise SchemaMismatch(
                f"The database schema is newer than this release: it has migrations "
                f"{state.unknown}. Migrate with the newer release."
            )
        for migration in state.pending:
            _apply(conn, migration)
        return [migration.name for migration in state.pending]


def _read_checksums(conn: Connection) -> dict[int, str]:
    """Return the checksums of the applied migrations by number."""
    try:
        return dict(conn.execute("SELECT number, checksum FROM schema_migrations").fetchall())
    except sqlstate.UndefinedTable:
        return {}


def _apply(conn: Connection, migration: Migration) -> None:
    with conn.transaction():
        # While a migration waits for a table lock, all later readers of the table wait too. Fail
        # soon instead, so that an operator can run the command again.
        conn.execute("SET LOCAL lock_timeout = '5s'")
        conn.execute("SET LOCAL statement_timeout = 0")
        conn.execute(migration.text, prepare=False)  # a prepared statement holds one command
        conn.execute(
            "INSERT INTO schema_migrations (number, name, checksum) VALUES (%s, %s, %s)",
            (migration.number, migration.name, migration.checksum),
        )


@contextmanager
def _lock(conn: Connection, timeout: float) -> Iterator[None]:
    # Poll the lock: a waiting pg_advisory_lock() would be canceled by the statement timeout, and it
    # would hold a snapshot for which CREATE INDEX CONCURRENTLY waits in any other session.
    deadline = time.monotonic() + timeout
    while not _try_lock(conn):
        if time.monotonic() > deadline:
            raise StoreUnavailable(
                f"Another migration is still running after {timeout:.0f} seconds; try again later."
            )
        time.sleep(0.1)
    try:
        yield
    finally:
        if not conn.closed:
            conn.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def _try_lock(conn: Connection) -> bool:
    row = conn.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
    return row is not None and row[0]
