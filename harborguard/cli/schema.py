"""The database: its schema, and the connection that the other commands work on."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from harborguard.cli.terminal import say
from harborguard.config import Config
from harborguard.errors import ConfigurationError, SchemaMismatch
from harborguard.local import database
from harborguard.store import migrations
from harborguard.store.pool import Connection, connect


@contextmanager
def store() -> Iterator[Connection]:
    """A connection to the project's database, which must have this release's schema."""
    with database(Config.from_env()) as config, connect(config) as conn:
        if migrations.schema_state(conn).pending:
            raise SchemaMismatch(migrations.OUT_OF_DATE)
        yield conn


@click.command()
def migrate() -> None:
    """Bring the database's schema up to this release; harmless to repeat."""
    settings = Config.from_env()
    if settings.pooler:
        raise ConfigurationError(
            "Migrations hold a lock on their connection, which a pooler would share: "
            "set DATABASE_URL to the server itself and HARBORGUARD_POOLER to off"
        )
    with database(settings) as config, connect(config) as conn:
        applied = migrations.migrate(conn)
    for name in applied:
        say(f"applied {name}")
    say("the schema is up to date" if not applied else f"{len(applied)} applied")
