"""Translation of psycopg errors into `harborguard.errors`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg import errors as sqlstate
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from harborguard.errors import HarborGuardError, InvalidReport, StatementTimeout, StoreUnavailable

T = TypeVar("T")

_UNAVAILABLE = (
    PoolTimeout,
    PoolClosed,
    TooManyRequests,
    sqlstate.ReadOnlySqlTransaction,
    sqlstate.OperationalError,
    psycopg.InterfaceError,
)
_DELETED = "Another transaction deletes what this one refers to; try again shortly."
_TIMED_OUT = (sqlstate.QueryCanceled, sqlstate.LockNotAvailable)


def retry_once(work: Callable[[], T]) -> T:
    """Run a transaction and return its result; run it again if another one made it fail.

    Such failures are a deadlock, a serialization failure, or a foreign key that refers to a row
    which another transaction deleted (SQLSTATE 40P01, 40001, 23503). A second failure is raised.
    """
    try:
        return work()
    except (
        sqlstate.DeadlockDetected,
        sqlstate.SerializationFailure,
        sqlstate.ForeignKeyViolation,
    ):
        return work()


@contextmanager
def reject_unstorable_values() -> Iterator[None]:
    """Raise InvalidReport for a value that a column or an index cannot store.

    These are errors of the SQLSTATE class 22, and 54000 for a value that is too long for an index.

    The parsers limit every value. If they miss one, the report is rejected instead of a 500.
    """
    try:
        yield
    except (psycopg.DataError, sqlstate.ProgramLimitExceeded) as error:
        raise InvalidReport("The report has a value that cannot be stored.") from error


def translate_error(error: BaseException) -> HarborGuardError | None:
    """Return the domain error for a timeout, an unavailable database or a concurrent deletion.

    Return None for other errors.
    """
    if isinstance(error, _TIMED_OUT):
        return StatementTimeout()
    if isinstance(error, sqlstate.ForeignKeyViolation):
        return StoreUnavailable(_DELETED)
    if isinstance(error, _UNAVAILABLE):
        return StoreUnavailable()
    return None
