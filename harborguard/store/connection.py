"""PostgreSQL connections and their session settings."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, LiteralString

import psycopg
from psycopg import Cursor
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from harborguard.config import Config
from harborguard.errors import ConfigurationError

_MAX_CURSORS = 16  # each keeps the rows that it read last

# The statements of the list are short index scans on a tenant prefix. JIT, parallel workers,
# sequential scans, hash or merge joins, and caches of joined rows (memoize) only add latency. A
# generic plan suits all parameters, because each kind of query has its own text. Commands use
# PostgreSQL's defaults: they read whole tables.
_PLANNER_SETTINGS = {
    "jit": "off",
    "max_parallel_workers_per_gather": 0,
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_memoize": "off",
    "plan_cache_mode": "force_generic_plan",
    "random_page_cost": 1.1,
}


class Connection(psycopg.Connection[TupleRow]):
    """Connection that reuses one cursor per frequent statement.

    psycopg caches per cursor how to adapt the parameters and load the columns of its last
    statement. Reuse saves about a tenth of a short statement's time (docs/design.md).
    """

    def fetch(self, statement: LiteralString, parameters: Mapping[str, Any]) -> list[TupleRow]:
        """Return all rows of a statement that many requests run."""
        if statement not in self._cursors:
            if len(self._cursors) == _MAX_CURSORS:
                del self._cursors[next(iter(self._cursors))]
            self._cursors[statement] = statement, self.cursor()
        # Equal texts are built as different objects. Pass the first object again: psycopg's caches
        # then find it by identity.
        text, cursor = self._cursors[statement]
        return cursor.execute(text, parameters).fetchall()

    def close(self) -> None:
        """Close the connection and drop the rows that its cursors keep."""
        self._cursors.clear()
        super().close()

    @cached_property
    def _cursors(self) -> dict[LiteralString, tuple[LiteralString, Cursor[TupleRow]]]:
        return {}


def connect(config: Config) -> Connection:
    """Return a connection outside the pool, for the command line and for checks at start-up.

    It has the default planner settings and a statement timeout of five minutes, or behind a pooler
    those of the role. Raise
    ConfigurationError if DATABASE_URL names a pooler, but HARBORGUARD_POOLER is off.
    """
    url, settings = validated_url(config), command_settings(config)
    try:
        return Connection.connect(url, **settings)
    except psycopg.OperationalError as error:
        if config.pooler or not _connects_without_options(url, settings):
            raise
        message = (
            "DATABASE_URL names a pooler. Set HARBORGUARD_POOLER=on, or name the PostgreSQL server."
        )
        raise ConfigurationError(message) from error


def validated_url(config: Config) -> str:
    """Return the database URL; raise ConfigurationError if libpq cannot parse it."""
    try:
        conninfo_to_dict(config.database_url)
    except psycopg.ProgrammingError:
        # psycopg's message quotes the URL, which may contain a password.
        message = "DATABASE_URL is not a PostgreSQL URI or a list of key=value pairs."
        raise ConfigurationError(message) from None
    return config.database_url


def request_settings(config: Config) -> dict[str, Any]:
    """Return psycopg's connect arguments for the pool's connections."""
    return _connect_arguments(config, _PLANNER_SETTINGS)


def unpooled_settings(config: Config) -> dict[str, Any]:
    """Return connect arguments for the service outside the pool, with default planner settings."""
    return _connect_arguments(config, {})


def command_settings(config: Config) -> dict[str, Any]:
    """Return psycopg's connect arguments for a command: default plans, a long timeout."""
    return _connect_arguments(replace(config, statement_timeout_ms=300_000), {})


def _connect_arguments(config: Config, planner: Mapping[str, Any]) -> dict[str, Any]:
    common = {"autocommit": True, "connect_timeout": 2, "application_name": "harborguard"}
    if config.pooler:
        # A pooler in transaction mode has neither sessions for options nor prepared statements.
        return {**common, "prepare_threshold": None}
    settings = {
        "statement_timeout": config.statement_timeout_ms,
        "idle_in_transaction_session_timeout": 10_000,
        "timezone": "UTC",
        **planner,
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    return {**common, "prepare_threshold": 0, "options": options}


def _connects_without_options(url: str, settings: Mapping[str, Any]) -> bool:
    # pgbouncer rejects options, and libpq reports no SQLSTATE that would identify this error.
    try:
        Connection.connect(url, **{**settings, "options": ""}).close()
    except psycopg.OperationalError:
        return False
    return True
