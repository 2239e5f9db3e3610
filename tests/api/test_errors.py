"""Errors have one envelope and the status of their code, and do not expose internal causes."""

import json
import time
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, run_wsgi_app

from app import create_app
from harborguard import errors
from harborguard.api.errors import STATUSES
from harborguard.config import Config
from harborguard.store.connection import Connection
from tests.conftest import Events
from tests.support.tenants import Tenants


def test_unknown_path_returns_404_without_a_statement(
    client: FlaskClient, tenants: Tenants, statements: list[str]
) -> None:
    statements.clear()

    response = client.get("/api/nothing", headers=tenants.acme.headers)

    assert response.status_code == 404
    assert response.content_type == "application/json"
    assert response.json == {"error": {"code": "NOT_FOUND", "message": "The path does not exist."}}
    assert statements == []


@pytest.mark.parametrize(
    "path", ["/images", "/api", "/api/", "/api/images/", "/api//images", "/API/images"]
)
def test_similar_path_returns_404(client: FlaskClient, tenants: Tenants, path: str) -> None:
    response = client.get(path, headers={**tenants.acme.headers, "Host": "evil.test"})
    assert response.status_code == 404
    assert response.json is not None
    assert response.json["error"]["code"] == "NOT_FOUND"
    assert b"evil" not in response.data


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
@pytest.mark.parametrize(
    "path", ["//api/images", "///api/images", "//api/health", "//api/docs", "//", "//evil.test/api"]
)
def test_path_with_two_leading_slashes_returns_404_without_a_statement(
    app: Flask, tenants: Tenants, statements: list[str], events: Events, method: str, path: str
) -> None:
    """The test client would take the path for a host, so the path is set in the environment."""
    statements.clear()
    environ = EnvironBuilder(
        "/", method=method, headers=Headers(tenants.acme.headers)
    ).get_environ()
    response = run_wsgi_app(app, {**environ, "PATH_INFO": path, "REQUEST_URI": path}, buffered=True)
    body, status, headers = b"".join(response[0]), response[1], response[2]
    assert status == "404 NOT FOUND"
    expected = {"error": {"code": "NOT_FOUND", "message": "The path does not exist."}}
    assert method == "HEAD" or json.loads(body) == expected
    assert "Location" not in headers
    assert statements == []
    assert [event["route"] for event in events()] == ["unmatched"]


@pytest.mark.parametrize(
    "headers",
    [
        *({"Host": host} for host in ("evil.test:1", "", "[::1", "h\xe9.test")),
        {"Connection": "Upgrade", "Upgrade": "h2c"},
    ],
    ids=repr,
)
def test_host_and_upgrade_headers_do_not_change_the_response(
    client: FlaskClient, tenants: Tenants, headers: dict[str, str]
) -> None:
    tenants.acme.add_image("ghcr.io/a/b")
    plain = client.get("/api/images", headers=tenants.acme.headers)
    other = client.get("/api/images", headers={**tenants.acme.headers, **headers})
    assert (other.status_code, other.data) == (200, plain.data)
    assert other.headers["ETag"] == plain.headers["ETag"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
def test_method_not_allowed_returns_405_without_a_statement(
    client: FlaskClient, tenants: Tenants, statements: list[str], method: str
) -> None:
    statements.clear()
    response = client.open("/api/images", method=method)
    assert response.status_code == 405
    assert response.json is not None
    assert response.json["error"]["code"] == "METHOD_NOT_ALLOWED"
    assert sorted(response.headers["Allow"].split(", ")) == ["GET", "HEAD", "OPTIONS"]
    assert statements == []


def test_options_without_a_credential_returns_200(
    client: FlaskClient, tenants: Tenants, statements: list[str]
) -> None:
    statements.clear()
    response = client.options("/api/images")
    assert (response.status_code, response.data) == (200, b"")
    assert sorted(response.headers["Allow"].split(", ")) == ["GET", "HEAD", "OPTIONS"]
    assert "Access-Control-Allow-Origin" not in response.headers
    assert statements == []


def test_internal_error_is_logged_and_its_response_is_opaque(
    client: FlaskClient, tenants: Tenants, conn: Connection, events: Events
) -> None:
    conn.execute("ALTER TABLE images RENAME COLUMN tag_count TO gone")
    try:
        response = client.get("/api/images", headers=tenants.acme.headers)
    finally:
        conn.execute("ALTER TABLE images RENAME COLUMN gone TO tag_count")
    assert response.status_code == 500
    assert response.json == {
        "error": {"code": "INTERNAL_ERROR", "message": "The service failed to process the request."}
    }
    [error] = [event for event in events() if event["level"] == "error"]
    assert "tag_count" in error["exception"]
    assert error["request_id"] == response.headers["X-Request-ID"]
    assert client.get("/api/images", headers=tenants.acme.headers).status_code == 200


def test_slow_statement_returns_504(config: Config, tenants: Tenants, conn: Connection) -> None:
    # With a pooler, the timeout is a setting of the role.
    limit = config.statement_timeout_ms if config.pooler else 100
    app = create_app(replace(config, statement_timeout_ms=limit))
    with app.extensions["harborguard"].pool, conn.transaction():
        conn.execute("LOCK TABLE images IN ACCESS EXCLUSIVE MODE")
        response = app.test_client().get("/api/images", headers=tenants.acme.headers)
    assert response.status_code == 504
    assert response.json == {
        "error": {"code": "TIMEOUT", "message": "The database took too long to respond."}
    }


def test_unreachable_database_returns_503(tenants: Tenants) -> None:
    app = create_app(Config(database_url="host=/nowhere", pool_timeout=0.2))
    pool = app.extensions["harborguard"].pool
    pool.open(wait=False)
    try:
        response = app.test_client().get("/api/images", headers=tenants.acme.headers)
    finally:
        pool.close()
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "2"
    assert response.json == {
        "error": {
            "code": "SERVICE_UNAVAILABLE",
            "message": "The database is not available; try again shortly.",
        }
    }


def test_exhausted_pool_returns_503(config: Config, tenants: Tenants) -> None:
    app = create_app(replace(config, pool_timeout=0.2))
    with app.extensions["harborguard"].pool as pool:
        held = [pool.getconn() for _ in range(config.pool_size and pool.max_size)]
        response = app.test_client().get("/api/images", headers=tenants.acme.headers)
        for connection in held:
            pool.putconn(connection)
        assert response.status_code == 503
        time.sleep(1)  # the pool rejects requests for 0.5 s after a failure
        assert app.test_client().get("/api/images", headers=tenants.acme.headers).status_code == 200


def test_connections_return_to_the_pool_after_every_status(
    app: Flask, client: FlaskClient, tenants: Tenants
) -> None:
    pool = app.extensions["harborguard"].pool
    for _ in range(3 * pool.max_size):
        assert client.get("/api/images", headers=tenants.acme.headers).status_code == 200
        assert client.get("/api/images?page=x", headers=tenants.acme.headers).status_code == 400
        assert client.get("/api/images", headers={"X-API-Key": "hg_ak_x"}).status_code == 401
    assert pool.get_stats()["pool_available"] == pool.get_stats()["pool_size"]


def test_every_error_class_has_a_status() -> None:
    classes = [errors.HarborGuardError, *_subclasses(errors.HarborGuardError)]
    assert {cls.code for cls in classes} <= set(STATUSES)


def _subclasses(cls: type[errors.HarborGuardError]) -> list[type[errors.HarborGuardError]]:
    return [sub for child in cls.__subclasses__() for sub in (child, *_subclasses(child))]
