"""What a request can use: the pool and the session reader, and one connection of its own."""

from dataclasses import dataclass

from flask import current_app, g

from harborguard.sessions import SessionReader
from harborguard.store.pool import Connection, Pool


@dataclass(frozen=True, slots=True)
class Services:
    """What `create_app` made; one for each application."""

    pool: Pool
    sessions: SessionReader | None
    use_counters: bool


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
