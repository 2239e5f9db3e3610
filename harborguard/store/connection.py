"""Connections, and how the server is set for them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any, LiteralString

import psycopg
from psycopg import Cursor
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from harborguard.config import Config
from harborguard.errors import ConfigurationError


class Connection(psycopg.Connection[TupleRow]):
    """A connection that keeps what it has learned of the statements that are asked all the time."""

    def fetch(self, statement: LiteralString, parameters: Mapping[str, Any]) -> list[TupleRow]:
        """All rows of a statement that requests ask over and over.

        A cursor that is given the very text it had before need not find out again how to write the
        parameters and read the columns: a tenth of the time that the statement takes.
        """
        text, cursor = self._cursor_of(statement)
        return cursor.execute(text, parameters).fetchall()

    def close(self) -> None:
        """Ends it; nothing that was read is kept."""
        self.__dict__.pop("_cursor_of", None)
        super().close()

    @cached_property
    def _cursor_of(self) -> Callable[[LiteralString], tuple[LiteralString, Cursor[TupleRow]]]:
        # Not many: each keeps the rows that it read last.
        return lru_cache(maxsize=16)(lambda statement: (statement, self.cursor()))


def connect(config: Config) -> Connection:
    """One connection outside of any pool, for the command line and for checks at the start.

    It may take its time: nobody is waiting for an answer over HTTP. Raises ConfigurationError where
    a pooler answers that is not configured.
    """
    patient = replace(config, statement_timeout_ms=300_000)
    try:
        return Connection.connect(checked_url(config), **connection_settings(patient))
    except psycopg.OperationalError as error:
        if "unsupported startup parameter" not in str(error):
            raise
        message = "DATABASE_URL leads to a pooler: set HARBORGUARD_POOLER=on, or name the server"
        raise ConfigurationError(message) from error


def checked_url(config: Config) -> str:
    """Where the database is; raises ConfigurationError for what the driver cannot read."""
    try:
        conninfo_to_dict(config.database_url)
    except psycopg.ProgrammingError:
        # The driver would quote it, and with it perhaps a password.
        raise ConfigurationError("DATABASE_URL is not a PostgreSQL URI or key=value list") from None
    return config.database_url


def connection_settings(config: Config) -> dict[str, Any]:
    """How every connection is opened: the driver's arguments."""
    settings = {
        "statement_timeout": config.statement_timeout_ms,
        "idle_in_transaction_session_timeout": 10_000,
        "timezone": "UTC",
        # Every statement enters a table by the first column of an index, and walks narrow entries
        # there: compiling it, sharing it among processes, reading or hashing a whole table
        # instead, or believing that a page of an index costs a disk's seek only makes it slower.
        # Each question has a text of its own, so that one plan serves all who ask it.
        "jit": "off",
        "max_parallel_workers_per_gather": 0,
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "plan_cache_mode": "force_generic_plan",
        "random_page_cost": 1.1,
    }
    common = {"autocommit": True, "connect_timeout": 2, "application_name": "harborguard"}
    if config.pooler:
        # A statement is prepared, and an option set, on whichever server connection is at hand.
        return {**common, "prepare_threshold": None}
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    return {**common, "prepare_threshold": 0, "options": options}
