"""Connections: the pool with its bounds, and the driver's errors in the field's words."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import psycopg
from psycopg import errors as sqlstate
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from harborguard.config import Config
from harborguard.errors import (
    ConfigurationError,
    HarborGuardError,
    StatementTimeout,
    StoreUnavailable,
)

Connection = psycopg.Connection[TupleRow]
Pool = ConnectionPool[Connection]
T = TypeVar("T")

_UNAVAILABLE = (
    PoolTimeout,
    PoolClosed,
    TooManyRequests,
    sqlstate.ReadOnlySqlTransaction,
    sqlstate.OperationalError,
    psycopg.InterfaceError,
)
_TIMED_OUT = (sqlstate.QueryCanceled, sqlstate.LockNotAvailable)


def make_pool(config: Config) -> Pool:
    """A pool that is still closed: whoever serves opens it, in the process that serves.

    A caller waits `pool_timeout` at most and only a few may wait, so that an outage is answered
    rather than queued for. A connection is checked before it is lent: after a restart of the
    database the first request does not pay for it.
    """
    return ConnectionPool(
        _checked_url(config),
        kwargs=_connection_settings(config),
        configure=_configure,
        check=ConnectionPool.check_connection,
        min_size=1,
        max_size=config.pool_size,
        timeout=config.pool_timeout,
        max_waiting=2 * config.pool_size,
        reconnect_timeout=3,
        max_lifetime=30 * 60,
        name="images",
        open=False,
    )


def connect(config: Config) -> Connection:
    """One connection outside of any pool, for the command line and for checks at the start.

    It may take its time: nobody is waiting for an answer over HTTP.
    """
    patient = replace(config, statement_timeout_ms=300_000)
    conn = psycopg.connect(_checked_url(config), **_connection_settings(patient))
    _configure(conn)
    return conn


def _checked_url(config: Config) -> str:
    try:
        conninfo_to_dict(config.database_url)
    except psycopg.ProgrammingError:
        # The driver would quote it, and with it perhaps a password.
        raise ConfigurationError("DATABASE_URL is not a PostgreSQL URI or key=value list") from None
    return config.database_url


def _connection_settings(config: Config) -> dict[str, Any]:
    settings = {
        "statement_timeout": config.statement_timeout_ms,
        "idle_in_transaction_session_timeout": 10_000,
        "timezone": "UTC",
        # Every statement enters a table by the first column of an index, and walks narrow entries
        # there: compiling it, sharing it among processes, reading the whole table instead, or
        # believing that a page of an index costs a disk's seek only makes it slower.
        "jit": "off",
        "max_parallel_workers_per_gather": 0,
        "enable_seqscan": "off",
        "random_page_cost": 1.1,
    }
    return {
        "autocommit": True,
        "connect_timeout": 2,
        "application_name": "harborguard",
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
    }


class _IsoTimestampLoader(Loader):
    """A `timestamp` (a time AT TIME ZONE 'UTC') as the contract writes it, with no detour."""

    def load(self, data: Buffer) -> str:
        date, _, clock = bytes(data).decode().partition(" ")
        seconds, _, fraction = clock.partition(".")
        return f"{date}T{seconds}.{fraction[:3]:0<3}Z"


def _configure(conn: Connection) -> None:
    conn.adapters.register_loader("timestamp", _IsoTimestampLoader)


def retry_once(work: Callable[[], T]) -> T:
    """A transaction's result; one that was undone for another's sake is done a second time.

    That is a deadlock's victim (40P01) or a serialization failure (40001); a second one is raised.
    """
    try:
        return work()
    except (sqlstate.DeadlockDetected, sqlstate.SerializationFailure):
        return work()


def translate_error(error: BaseException) -> HarborGuardError | None:
    """The driver's error in the field's words; None where it is no state of the database's.

    What remains untranslated is a fault of this program, and is answered as one.
    """
    if isinstance(error, _TIMED_OUT):
        return StatementTimeout()
    if isinstance(error, _UNAVAILABLE):
        return StoreUnavailable()
    return None
