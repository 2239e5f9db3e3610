"""Translation of psycopg errors into `harborguard.errors`."""

from collections.abc import Callable
from typing import TypeVar

import psycopg
from psycopg import errors as sqlstate
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from harborguard.errors import HarborGuardError, StatementTimeout, StoreUnavailable

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


def retry_once(work: Callable[[], T]) -> T:
    """Return a transaction's result; run it again after a deadlock or serialization failure.

    These are SQLSTATE 40P01 and 40001. A second failure is raised.
    """
    try:
        return work()
    except (sqlstate.DeadlockDetected, sqlstate.SerializationFailure):
        return work()


def translate_error(error: BaseException) -> HarborGuardError | None:
    """Return the domain error for a timeout or an unavailable database; None for other errors."""
    if isinstance(error, _TIMED_OUT):
        return StatementTimeout()
    if isinstance(error, _UNAVAILABLE):
        return StoreUnavailable()
    return None
