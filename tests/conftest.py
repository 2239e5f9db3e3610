"""Fixtures: server, database, connection, application, client, tenants and log."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

# Settings of the developer must not affect the service under test.
for _name in [*os.environ]:
    if _name.startswith(("DATABASE_URL", "NEXTAUTH_SECRET", "PORT", "PG")) or (
        _name.startswith("HARBORGUARD_")
        and not _name.startswith(
            ("HARBORGUARD_TEST_", "HARBORGUARD_REPORTS", "HARBORGUARD_COOKIES")
        )
    ):
        del os.environ[_name]

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg.conninfo import make_conninfo

from app import create_app
from harborguard.config import Config
from harborguard.observability.logs import configure_logging
from harborguard.store.connection import Connection, connect
from tests.support import leaks, postgres, registry
from tests.support.cookies import OTHER_SECRET, SECRET
from tests.support.openapi import DocumentedClient
from tests.support.tenants import Tenants

Events = Callable[[], list[dict[str, Any]]]
TRUNCATE_ALL = """
TRUNCATE organizations, users, api_keys, personal_access_tokens, registries, images, image_names,
    tags, scans, finding_sets, findings, scan_findings, inventories, image_counts, image_changes,
    audit_log
"""
# Each test client checks every response against the OpenAPI document.
Flask.test_client_class = DocumentedClient
_CHOICE = pytest.StashKey[postgres.Choice]()


def pytest_configure(config: pytest.Config) -> None:
    """Choose the PostgreSQL server; it starts when the first test needs it."""
    config.stash[_CHOICE] = postgres.choose()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Report which servers the tests use, and why."""
    choice = config.stash[_CHOICE]
    return [f"PostgreSQL: {choice.kind} ({choice.reason})", f"registry: {registry.KIND}"]


@pytest.fixture(scope="session")
def server_url(pytestconfig: pytest.Config) -> Iterator[str]:
    """Yield the URL of a role that may create databases."""
    with postgres.server(pytestconfig.stash[_CHOICE]) as url:
        yield url


@pytest.fixture(scope="session")
def database_url(server_url: str) -> Iterator[str]:
    """Yield the URL of a migrated database for the whole run; the fixture `conn` empties it."""
    with postgres.migrated_database(server_url) as url:
        yield url


@pytest.fixture(scope="session")
def config(database_url: str) -> Config:
    """Return a configuration, for a direct connection or for a pooler."""
    settings = Config(database_url=database_url, nextauth_secrets=(SECRET,), threads=4)
    # Tests of authentication send many invalid credentials from one address.
    settings = replace(settings, rejections_per_minute=1_000_000)
    pooler = os.environ.get("HARBORGUARD_TEST_POOLER")
    if pooler is None:
        return settings
    # Only databases are created through a direct connection.
    host, port = pooler.split(":")
    through = make_conninfo(database_url, host=host, port=port)
    return replace(settings, database_url=through, pooler=True)


@pytest.fixture(scope="session", autouse=True)
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Log this process at the level debug; after the run, search the log for secrets.

    The output of the services that the tests started is searched too.
    """
    path = tmp_path_factory.mktemp("log") / "log"
    settings = Config(log_level="debug", log_format="json", nextauth_secrets=(SECRET, OTHER_SECRET))
    with path.open("ab") as file, leaks.recording_secrets():
        configure_logging(settings, file.fileno())
        yield path
    output = "".join([path.read_text(), *("".join(lines) for lines in leaks.OUTPUTS)])
    assert not leaks.find_leaks(output, leaks.ISSUED)


@pytest.fixture
def events(log_file: Path) -> Events:
    """Return a function that parses the events logged since the test began."""
    start = log_file.stat().st_size
    return lambda: [json.loads(line) for line in log_file.read_bytes()[start:].splitlines()]


@pytest.fixture
def conn(config: Config) -> Iterator[Connection]:
    """Empty the database and yield a connection to it."""
    with connect(config) as conn:
        conn.execute(TRUNCATE_ALL)
        yield conn


@pytest.fixture(scope="session")
def app(config: Config) -> Iterator[Flask]:
    """Yield the application with its pool open."""
    app = create_app(config)
    with app.extensions["harborguard"].pool:
        yield app


@pytest.fixture
def client(app: Flask, conn: Connection) -> FlaskClient:
    """Return a client without credentials, with an empty database."""
    return app.test_client(use_cookies=False)


@pytest.fixture
def tenants(conn: Connection) -> Tenants:
    """Return the tenants Acme and Globex with users and keys."""
    return Tenants(conn)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the statements of all connections, without the empty ones that check liveness."""
    sent: list[str] = []
    execute = psycopg.Cursor.execute

    def record(
        self: psycopg.Cursor, query: str | bytes, *args: object, **kwargs: object
    ) -> psycopg.Cursor:
        if query:
            sent.append(query if isinstance(query, str) else query.decode())
        return execute(self, query, *args, **kwargs)  # pyright: ignore

    monkeypatch.setattr(psycopg.Cursor, "execute", record)
    return sent
