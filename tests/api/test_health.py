"""GET /, /api/health and /api/ready: without a credential."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

import harborguard
from app import create_app
from harborguard.config import Config
from harborguard.store.connection import Connection


@pytest.fixture(autouse=True)
def expired_readiness(app: Flask) -> None:
    """Expire the result of the last readiness check, which is valid for a second."""
    app.extensions["harborguard"].readiness.valid_until = 0


def test_root_returns_version_and_links(client: FlaskClient, statements: list[str]) -> None:
    statements.clear()
    response = client.get("/")
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert response.json == {
        "data": {
            "name": "HarborGuard Images",
            "version": harborguard.__version__,
            "documentation": "/api/docs",
            "openapi": "/api/openapi.json",
            "images": "/api/images",
        }
    }
    assert statements == []
    data = response.json["data"]
    assert client.get(data["documentation"], buffered=True).status_code == 200
    assert client.get(data["openapi"]).status_code == 200
    assert client.get(data["images"]).status_code == 401


def test_polled_readiness_queries_the_database_once_a_second(
    client: FlaskClient, statements: list[str]
) -> None:
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


def test_readiness_without_a_database_returns_503() -> None:
    app = create_app(Config(database_url="host=/nowhere", pool_timeout=0.2))
    pool = app.extensions["harborguard"].pool
    pool.open(wait=False)
    try:
        assert app.test_client().get("/api/ready").status_code == 503
        assert app.test_client().get("/api/health").status_code == 200
    finally:
        pool.close()


def test_readiness_with_an_older_schema_returns_503(
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
    app.extensions["harborguard"].readiness.valid_until = 0
    assert client.get("/api/ready").status_code == 200


def test_readiness_with_a_newer_schema_returns_200(client: FlaskClient, conn: Connection) -> None:
    conn.execute("INSERT INTO schema_migrations (number, name, checksum) VALUES (9999, 'x', 'x')")
    try:
        assert client.get("/api/ready").status_code == 200
    finally:
        conn.execute("DELETE FROM schema_migrations WHERE number = 9999")


def test_readiness_with_a_changed_migration_returns_an_opaque_500(
    app: Flask, conn: Connection
) -> None:
    conn.execute("UPDATE schema_migrations SET checksum = 'x' || checksum WHERE number = 1")
    fresh = create_app(app.extensions["harborguard"].config)
    try:
        with fresh.extensions["harborguard"].pool:
            response = fresh.test_client().get("/api/ready")
    finally:
        conn.execute("UPDATE schema_migrations SET checksum = substr(checksum, 2) WHERE number = 1")
    assert response.status_code == 500
    assert response.json == {
        "error": {
            "code": "INTERNAL_ERROR",
            "message": "The service failed to process the request.",
        }
    }
