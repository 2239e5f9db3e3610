"""The command line's database connection."""

from collections.abc import Iterator
from contextlib import contextmanager

from harborguard.config import Config
from harborguard.errors import SchemaMismatch
from harborguard.store import migrations
from harborguard.store.connection import Connection, connect


@contextmanager
def open_database() -> Iterator[Connection]:
    """Open a connection to a database with at least this release's schema.

    The embedded database is migrated. Raise SchemaMismatch if the schema in DATABASE_URL is older.
    """
    is_embedded = not Config.from_env().database_url
    with provide_database() as config, connect(config) as conn:
        if migrations.schema_state(conn).pending:
            if not is_embedded:
                raise SchemaMismatch(migrations.OUT_OF_DATE)
            migrations.migrate(conn)
        yield conn


@contextmanager
def provide_database() -> Iterator[Config]:
    """Yield the settings with a database URL; run the embedded server if DATABASE_URL is unset."""
    config = Config.from_env()
    if config.database_url:
        yield config
        return
    # Production commands must not load the embedded server and the demo data.
    from harborguard.dev.local import database  # noqa: PLC0415

    with database(config) as embedded:
        yield embedded
