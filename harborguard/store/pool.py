"""Connection pool with bounded waits, and connections that detect an unresponsive server."""

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
from harborguard.store.connection import (
    Connection,
    request_settings,
    unpooled_settings,
    validated_url,
)

T = TypeVar("T")

_CANCEL_TIMEOUT = 0.2  # seconds for the server to cancel a statement
_OUTAGE_SECONDS = 0.5  # how long the pool rejects callers after the database did not respond


class DeadlineConnection(Connection):
    """Connection that closes itself when the server stops responding while TCP stays open.

    PostgreSQL's timeouts have no effect then, and the pool's timeout limits only the wait for a
    connection, not the statement.
    """

    timeout: float  # seconds for a statement
    first_timeout: float  # seconds for the first statement after the checkout from the pool
    has_responded = False  # whether the server has responded since the checkout
    abandoned = False  # whether the connection was closed because the server did not respond

    def wait(self, gen: PQGen[T], *args: Any, timeout: float | None = None, **kwargs: Any) -> T:
        """Run one exchange with the server within the connection's timeout."""
        limit = self.timeout if self.has_responded else self.first_timeout
        try:
            result = super().wait(gen, *args, timeout=timeout or limit, **kwargs)
        except psycopg.OperationalError:
            # A server that responded, even with an error, has no statement in progress.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                if not self.has_responded:
                    self._cancel(gen)
                self.abandoned = True
                self.pgconn.finish()
            raise
        self.has_responded = True
        return result

    def _cancel(self, gen: PQGen[Any]) -> None:
        """Cancel the statement; raise QueryCanceled if the server does so: it was only slow."""
        try:
            self.cancel_safe(timeout=_CANCEL_TIMEOUT)
            super().wait(gen, timeout=_CANCEL_TIMEOUT)
        except sqlstate.QueryCanceled:
            self.has_responded = True
            raise
        except psycopg.OperationalError:
            return

    def has_pending_input(self) -> bool:
        """Return whether there is unread data, as on an idle connection that the server closed."""
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        return bool(poll.poll(0))


class Pool(ConnectionPool[DeadlineConnection]):
    """Connection pool that rejects callers for half a second once it has detected an outage.

    Otherwise, during an outage, each caller would wait for the whole timeout, one after the other.
    """

    _rejects_until = 0.0

    def __init__(self, *args: Any, max_waiting_callers: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # psycopg_pool's max_waiting also counts callers that timed out, so after a few timeouts in
        # one outage it rejects every caller (docs/design.md).
        self._waiting_slots = Semaphore(max_waiting_callers)

    def getconn(self, timeout: float | None = None) -> DeadlineConnection:
        """Return a working connection.

        Raise PoolTimeout or TooManyRequests. A timeout that the caller passes may be short, so it
        does not count as an outage.
        """
        if monotonic() < self._rejects_until:
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
        self._rejects_until = monotonic() + _OUTAGE_SECONDS


def make_pool(config: Config) -> Pool:
    """Return a closed pool; the worker process opens it after the fork.

    A caller waits at most `pool_timeout` seconds, and only a few callers may wait.
    """

    def configure(conn: DeadlineConnection) -> None:
        # Longer than PostgreSQL's statement timeout, which ends the statement if the server works.
        conn.timeout = config.statement_timeout_ms / 1000 + 0.5
        conn.first_timeout = config.pool_timeout

    def check(conn: DeadlineConnection) -> None:
        conn.has_responded = False
        # A server sends data before it closes a connection, so an idle connection without input is
        # open. A round trip at each checkout would take as long as the lookup of an API key.
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


def connect_outside_pool(config: Config) -> DeadlineConnection:
    """Return a connection outside the pool, for an export or the metrics.

    It has the default planner settings, because an export reads whole tables.
    """
    conn = DeadlineConnection.connect(validated_url(config), **unpooled_settings(config))
    conn.timeout = config.export_timeout_ms / 1000 + 0.5
    conn.first_timeout = config.pool_timeout
    return conn
