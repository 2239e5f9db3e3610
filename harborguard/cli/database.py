"""The command line's database connection."""

from collections.abc import Iterator
from contextlib import contextmanager

from harborguard.config import Config
from harborguard.dev.local import database
from harborguard.errors import SchemaMismatch
from harborguard.store import migrations
from harborguard.store.connection import Connection, connect


@contextmanager
def open_database() -> Iterator[Connection]:
    """Give a connection to a database with this release's schema; raise SchemaMismatch if older."""
    with database(Config.from_env()) as config, connect(config) as conn:
        if migrations.schema_state(conn).pending:
            raise SchemaMismatch(migrations.OUT_OF_DATE)
        yield conn
