"""What a request can use: pool, session reader and settings, and one connection of its own."""

from dataclasses import dataclass
from functools import cached_property

from flask import current_app, g

from harborguard.api.limits import Budget
from harborguard.config import Config
from harborguard.sessions import SessionReader
from harborguard.store.pool import Connection, Pool


@dataclass(frozen=True)
class Services:
    """What `create_app` made; one for each application."""

    pool: Pool
    sessions: SessionReader | None
    config: Config

    @cached_property
    def uploads(self) -> Budget:
        """How many reports each key may upload."""
        return Budget(self.config.uploads_per_minute)


def services() -> Services:
    """The services of the application that is answering."""
    return current_app.extensions["harborguard"]


def connection() -> Connection:
    """This request's connection, borrowed at first use and given back when the request ends."""
    if "connection" not in g:
        g.connection = services().pool.getconn()
    return g.connection


def release_connection(_error: BaseException | None = None) -> None:
    """Gives the request's connection back, if it took one."""
    if conn := g.pop("connection", None):
        services().pool.putconn(conn)
