"""The application as a WSGI callable, without a database: paths and Host headers."""

import json

import pytest
from flask import Flask
from werkzeug.test import create_environ, run_wsgi_app

from app import create_app
from harborguard.config import Config

PATHS = ("/api/health", "//api/health", "/api/health/", "/api/docs/", "/", "//evil.test/")
HOSTS = (
    *("", "evil.test:1", "x:abc", "x:99999", ":80", "[::1", "[::1]:80:80", "h\xe9.test", "xn--"),
    *("a..b", ".", "x" * 300, "x/../y", "a b", "a@b", "\xff", "%00", "x\ty"),
)


@pytest.fixture(scope="module")
def bare_app() -> Flask:
    """Return an application whose pool is never opened."""
    return create_app(Config(database_url="host=/nowhere", pool_timeout=0.1))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("host", HOSTS, ids=ascii)
def test_request_with_odd_host_or_path_returns_json_and_no_redirect(
    bare_app: Flask, host: str, path: str
) -> None:
    # Werkzeug's client cannot send all of these.
    environ = {**create_environ(), "PATH_INFO": path, "HTTP_HOST": host}
    parts, status, headers = run_wsgi_app(bare_app, environ, buffered=True)
    body = b"".join(parts)
    # Werkzeug rejects a Host that IDNA cannot encode.
    expected = "200 OK" if path in {"/", "/api/health"} else "404 NOT FOUND"
    assert status in {expected, "400 BAD REQUEST"}
    assert headers["Content-Type"] == "application/json"
    assert "Location" not in headers
    assert b"evil" not in body
    document = json.loads(body)
    assert set(document) == {"data" if status == "200 OK" else "error"}


def test_websocket_upgrade_returns_400_in_json(bare_app: Flask) -> None:
    headers = {"HTTP_CONNECTION": "Upgrade", "HTTP_UPGRADE": "websocket"}
    response = bare_app.test_client().get("/api/images", environ_overrides=headers)
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"]["code"] == "BAD_REQUEST"
