"""Connection pool with bounded waits, and connections that detect a silent server."""

import select
from threading import Semaphore
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg import errors as sqlstate
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from harborguard.config import Config
from harborguard.store.connection import Connection, request_settings, validated_url

T = TypeVar("T")

_CANCEL_TIMEOUT = 0.2  # seconds for a server that seems silent to act on a cancel request
_OUTAGE_SECONDS = 0.5  # how long the pool refuses callers after it found the database down


class DeadlineConnection(Connection):
    """Connection that closes itself when the server stops responding while TCP stays open.

    The server's own timeouts do not help then, and the pool's timeout ends where a statement
    begins.
    """

    timeout: float  # seconds for a statement
    first_timeout: float  # seconds for the first statement after the connection was lent
    is_proven = False  # the server has responded since the connection was lent
    abandoned = False

    def wait(self, gen: PQGen[T], *args: Any, timeout: float | None = None, **kwargs: Any) -> T:
        """Run one exchange with the server within the connection's timeout."""
        limit = self.timeout if self.is_proven else self.first_timeout
        try:
            result = super().wait(gen, *args, timeout=timeout or limit, **kwargs)
        except psycopg.OperationalError:
            # A server that responded, even with an error, has no statement in progress.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                if not self.is_proven:
                    self._cancel(gen)
                self.abandoned = True
                self.pgconn.finish()
            raise
        self.is_proven = True
        return result

    def _cancel(self, gen: PQGen[Any]) -> None:
        """Cancel the statement; raise QueryCanceled if the server responds, so was only slow."""
        try:
            self.cancel_safe(timeout=_CANCEL_TIMEOUT)
            super().wait(gen, timeout=_CANCEL_TIMEOUT)
        except sqlstate.QueryCanceled:
            self.is_proven = True
            raise
        except psycopg.OperationalError:
            return

    def has_pending_input(self) -> bool:
        """Return whether unread data waits, which on an idle connection means that it ended."""
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        return bool(poll.poll(0))


class Pool(ConnectionPool[DeadlineConnection]):
    """Connection pool that remembers an outage for half a second and refuses callers meanwhile.

    Otherwise every caller would wait out its own timeout, one after the other.
    """

    _refuse_until = 0.0

    def __init__(self, *args: Any, max_waiting_callers: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # psycopg_pool's max_waiting also counts callers that gave up, so that after a few timeouts
        # in one outage it refuses every caller (docs/design.md).
        self._waiting_slots = Semaphore(max_waiting_callers)

    def getconn(self, timeout: float | None = None) -> DeadlineConnection:
        """Return a working connection.

        Raise PoolTimeout or TooManyRequests. A timeout that the caller chose is no sign of an
        outage, so it is not remembered.
        """
        if monotonic() < self._refuse_until:
            raise PoolTimeout("the database was unavailable a moment ago")
        if not self._waiting_slots.acquire(blocking=False):
            raise TooManyRequests("too many callers are waiting already")
        try:
            return super().getconn(timeout)
        except PoolTimeout:
            if timeout is None:
                self._remember_outage()
            raise
        finally:
            self._waiting_slots.release()

    def putconn(self, conn: DeadlineConnection) -> None:
        """Return a connection to the pool."""
        if conn.abandoned:
            self._remember_outage()
        super().putconn(conn)

    def _remember_outage(self) -> None:
        self._refuse_until = monotonic() + _OUTAGE_SECONDS


def make_pool(config: Config) -> Pool:
    """Return a closed pool; the worker process opens it, because connections do not survive fork.

    A caller waits at most `pool_timeout` seconds, and only a few callers may wait.
    """

    def configure(conn: DeadlineConnection) -> None:
        # The server's statement timeout should come first where the server works.
        conn.timeout = config.statement_timeout_ms / 1000 + 0.5
        conn.first_timeout = config.pool_timeout

    def check(conn: DeadlineConnection) -> None:
        conn.is_proven = False
        # A server that closes a connection sends data first. A round trip for each check would cost
        # as much as a key lookup, and a prepared one (the pool's own check) twice that.
        if conn.has_pending_input():
            conn.execute("", prepare=False)

    return Pool(
        validated_url(config),
        connection_class=DeadlineConnection,
        kwargs=request_settings(config),
        configure=configure,
        check=check,
        min_size=1,
        max_size=config.pool_size,
        timeout=config.pool_timeout,
        max_waiting_callers=2 * config.pool_size,
        reconnect_timeout=2,
        max_lifetime=30 * 60,
        name="images",
        open=False,
    )
