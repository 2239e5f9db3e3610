"""What a request can use: pool, session reader and settings, and one connection of its own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from flask import current_app, g

from harborguard.api.rate_limit import Budget
from harborguard.auth.sessions import SessionReader
from harborguard.config import Config
from harborguard.observability import metrics
from harborguard.store.connection import Connection
from harborguard.store.pool import Pool

T = TypeVar("T")


@dataclass(slots=True)
class Readiness:
    """What was found out about the schema, and until when that holds."""

    is_current: bool = False
    holds_until: float = 0


@dataclass(frozen=True)
class Services:
    """What `create_app` made; one for each application."""

    pool: Pool
    sessions: SessionReader | None
    config: Config
    readiness: Readiness = field(default_factory=Readiness)

    @cached_property
    def uploads(self) -> Budget:
        """How many reports each key may upload."""
        return Budget(self.config.uploads_per_minute)


def services() -> Services:
    """The services of the application that is answering."""
    return current_app.extensions["harborguard"]


def connection() -> Connection:
    """This request's connection, borrowed at first use and given back when the request ends."""
    conn = g.get("connection")
    if conn is None:
        with metrics.track_waiting():
            g.connection = conn = services().pool.getconn()
        metrics.change_in_use(1)
    return conn


def read(work: Callable[[Connection], T]) -> T:
    """What `work`, which only reads, finds; once more where its connection broke under it."""
    conn = connection()
    try:
        return work(conn)
    except Exception:
        if not conn.broken:
            raise
        release_connection()
        return work(connection())


def release_connection(_error: BaseException | None = None) -> None:
    """Gives the request's connection back, if it took one."""
    if conn := g.pop("connection", None):
        metrics.change_in_use(-1)
        services().pool.putconn(conn)
