"""The application's services, and the database connection of each request."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from flask import current_app, g

from harborguard.api.rate_limit import RateLimit
from harborguard.auth.sessions import SessionReader
from harborguard.config import Config
from harborguard.observability import metrics
from harborguard.store.connection import Connection
from harborguard.store.pool import Pool

T = TypeVar("T")


@dataclass(slots=True)
class Readiness:
    """The last result of the schema check. `valid_until` is a monotonic time in seconds."""

    is_current: bool = False
    valid_until: float = 0


@dataclass(frozen=True)
class Services:
    """The services of an application. `openapi_document` is filled by the first request for it."""

    pool: Pool
    sessions: SessionReader | None
    config: Config
    readiness: Readiness = field(default_factory=Readiness)
    openapi_document: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def new_scan_limit(self) -> RateLimit:
        """Return the rate limit of new scans per API key."""
        return RateLimit(self.config.new_scans_per_minute, "new scans")

    @cached_property
    def rejection_limit(self) -> RateLimit:
        """Return the rate limit of requests without a valid credential per client address."""
        return RateLimit(self.config.rejections_per_minute, "requests without a valid credential")


def services() -> Services:
    """Return the services of the current application."""
    return current_app.extensions["harborguard"]


def connection() -> Connection:
    """Return the request's connection, taken from the pool at first use.

    `release_connection` returns it to the pool when the request ends.
    """
    conn = g.get("connection")
    if conn is None:
        with metrics.track_waiting():
            g.connection = conn = services().pool.getconn()
        metrics.change_in_use(1)
    return conn


def read(work: Callable[[Connection], T]) -> T:
    """Return the result of `work`, which must only read.

    If the connection breaks, `work` runs once more on another connection.
    """
    conn = connection()
    try:
        return work(conn)
    except Exception:
        if not conn.broken:
            raise
        release_connection()
        return work(connection())


def release_connection(_error: BaseException | None = None) -> None:
    """Return the request's connection to the pool, if it has one."""
    if conn := g.pop("connection", None):
        metrics.change_in_use(-1)
        services().pool.putconn(conn)
