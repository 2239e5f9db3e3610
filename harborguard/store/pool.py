"""The pool with its bounds, and the driver's errors in the field's words."""

import select
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg import errors as sqlstate
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from harborguard.config import Config
from harborguard.errors import HarborGuardError, StatementTimeout, StoreUnavailable
from harborguard.store.connection import Connection, checked_url, connection_settings

T = TypeVar("T")

_LAST_WORD = 0.2  # seconds for a server that seems silent to obey, before it is given up
_UNAVAILABLE = (
    PoolTimeout,
    PoolClosed,
    TooManyRequests,
    sqlstate.ReadOnlySqlTransaction,
    sqlstate.OperationalError,
    psycopg.InterfaceError,
)
_TIMED_OUT = (sqlstate.QueryCanceled, sqlstate.LockNotAvailable)


class ImpatientConnection(Connection):
    """A connection that gives a server up which says nothing, though TCP is alive.

    The server's own timeouts are of no use then, and the pool's end where a statement begins.
    """

    patience: float  # seconds for a statement
    first_patience: float  # seconds for the first one after the connection was lent
    is_proven = False
    is_given_up = False

    def wait(self, gen: PQGen[T], *args: Any, timeout: float | None = None, **kwargs: Any) -> T:
        """Runs one exchange with the server, for as long as its patience lasts."""
        patience = self.patience if self.is_proven else self.first_patience
        try:
            found = super().wait(gen, *args, timeout=timeout or patience, **kwargs)
        except psycopg.OperationalError:
            # A server that answers, even with an error, leaves no statement under way.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                if not self.is_proven:
                    self._cancel(gen)
                self.is_given_up = True
                self.pgconn.finish()
            raise
        self.is_proven = True
        return found

    def _cancel(self, gen: PQGen[Any]) -> None:
        """Raises QueryCanceled where the server is only slow: then it obeys."""
        try:
            self.cancel_safe(timeout=_LAST_WORD)
            super().wait(gen, timeout=_LAST_WORD)
        except sqlstate.QueryCanceled:
            self.is_proven = True
            raise
        except psycopg.OperationalError:
            return

    def has_news(self) -> bool:
        """Whether the server has said something unasked: as a rule, that all is over."""
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        return bool(poll.poll(0))


class Pool(ConnectionPool[ImpatientConnection]):
    """A pool that remembers an outage for half a second, and refuses at once in that time.

    Else every caller of an outage would find it out by waiting, one behind the other.
    """

    _refuses_until = 0.0

    def __init__(self, *args: Any, queue: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The library's own max_waiting counts those too who have given up, so that after a few of
        # them in one outage it refuses everybody for ever.
        self._places = SimpleQueue[None]()
        for _ in range(queue):
            self._places.put(None)

    def getconn(self, timeout: float | None = None) -> ImpatientConnection:
        """A connection that works; `timeout` is for callers whose failing proves nothing."""
        if monotonic() < self._refuses_until:
            raise PoolTimeout("the database was away a moment ago")
        try:
            self._places.get_nowait()
        except Empty:
            raise TooManyRequests("too many callers are waiting already") from None
        try:
            return super().getconn(timeout)
        except PoolTimeout:
            if timeout is None:
                self._remember_outage()
            raise
        finally:
            self._places.put(None)

    def putconn(self, conn: ImpatientConnection) -> None:
        """Takes a connection back."""
        if conn.is_given_up:
            self._remember_outage()
        super().putconn(conn)

    def _remember_outage(self) -> None:
        self._refuses_until = monotonic() + 0.5


def make_pool(config: Config) -> Pool:
    """A pool that is still closed: whoever serves opens it, in the process that serves.

    A caller waits `pool_timeout` at most and only a few may wait, so that an outage is answered
    rather than queued for. A connection that the server has ended is not lent: after a restart of
    the database the first request does not pay for it.
    """

    def configure(conn: ImpatientConnection) -> None:
        # The server's own timeout comes first where the server is well enough to keep it.
        conn.patience = config.statement_timeout_ms / 1000 + 0.5
        conn.first_patience = config.pool_timeout

    def check(conn: ImpatientConnection) -> None:
        conn.is_proven = False
        # A server that ends a connection says so at once. To ask it each time would cost as much
        # as to look a key up; and prepared, as the pool's own check is, twice that.
        if conn.has_news():
            conn.execute("", prepare=False)

    return Pool(
        checked_url(config),
        connection_class=ImpatientConnection,
        kwargs=connection_settings(config),
        configure=configure,
        check=check,
        min_size=1,
        max_size=config.pool_size,
        timeout=config.pool_timeout,
        queue=2 * config.pool_size,
        reconnect_timeout=2,
        max_lifetime=30 * 60,
        name="images",
        open=False,
    )


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
