"""The command line's database connection."""

from collections.abc import Iterator
from contextlib import contextmanager

from harborguard.config import Config
from harborguard.errors import SchemaMismatch
from harborguard.store import migrations
from harborguard.store.connection import Connection, connect


@contextmanager
def open_database() -> Iterator[Connection]:
    """Connect to the database, in which all migrations of this release must be applied.

    Migrate the embedded database. Raise SchemaMismatch if another database has pending migrations.
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
    """Yield the settings with a database URL: DATABASE_URL, or else the embedded database's."""
    config = Config.from_env()
    if config.database_url:
        yield config
        return
    # Production commands must not load the embedded database and the demo data.
    from harborguard.dev.local import embedded_database  # noqa: PLC0415

    with embedded_database(config) as embedded:
        yield embedded
