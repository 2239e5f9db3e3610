"""Is it alive, is it ready: without a credential, and without saying more than needed."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from harborguard.config import Config
from harborguard.store.connection import Connection


@pytest.fixture(autouse=True)
def forget(app: Flask) -> None:
    """Readiness is kept for a second, which a test need not wait for."""
    app.extensions["harborguard"].readiness.holds_until = 0


def test_it_works(client: FlaskClient, statements: list[str]) -> None:
    statements.clear()
    response = client.get("/api/health")
    assert (response.status_code, response.json) == (200, {"data": {"status": "ok"}})
    assert statements == []
    response = client.get("/api/ready")
    assert (response.status_code, response.json) == (200, {"data": {"status": "ready"}})
    assert len(statements) == 1
    for _ in range(5):
        assert client.get("/api/ready").status_code == 200
    assert len(statements) == 1


def test_it_is_not_ready_without_a_database() -> None:
    app = create_app(Config(database_url="host=/nowhere", pool_timeout=0.2))
    pool = app.extensions["harborguard"].pool
    pool.open(wait=False)
    try:
        assert app.test_client().get("/api/ready").status_code == 503
        assert app.test_client().get("/api/health").status_code == 200
    finally:
        pool.close()


def test_it_is_not_ready_on_an_older_schema(
    app: Flask, client: FlaskClient, conn: Connection
) -> None:
    conn.execute("UPDATE schema_migrations SET number = -2 WHERE number = 2")
    try:
        response = client.get("/api/ready")
    finally:
        conn.execute("UPDATE schema_migrations SET number = 2 WHERE number = -2")
    assert response.status_code == 503
    assert response.json is not None
    assert response.json["error"]["message"] == "The database's schema is older than this release."
    assert client.get("/api/ready").status_code == 503
    app.extensions["harborguard"].readiness.holds_until = 0
    assert client.get("/api/ready").status_code == 200


def test_it_is_ready_on_a_newer_schema(client: FlaskClient, conn: Connection) -> None:
    conn.execute("INSERT INTO schema_migrations (number, name, checksum) VALUES (9999, 'x', 'x')")
    try:
        assert client.get("/api/ready").status_code == 200
    finally:
        conn.execute("DELETE FROM schema_migrations WHERE number = 9999")


def test_a_fault_of_the_schema_is_told_to_nobody(app: Flask, conn: Connection) -> None:
    conn.execute("UPDATE schema_migrations SET checksum = 'x' || checksum WHERE number = 1")
    fresh = create_app(app.extensions["harborguard"].config)
    try:
        with fresh.extensions["harborguard"].pool:
            response = fresh.test_client().get("/api/ready")
    finally:
        conn.execute("UPDATE schema_migrations SET checksum = substr(checksum, 2) WHERE number = 1")
    assert response.status_code == 500
    assert response.json == {
        "error": {"code": "INTERNAL_ERROR", "message": "Something went wrong on our side."}
    }
