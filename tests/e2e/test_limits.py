"""Limits that keep one client from affecting the others, with nginx and deploy/nginx.conf."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from harborguard.model import Role
from tests.support.fault_injection import deployed, deployed_in, short_directory
from tests.support.reports import envelope
from tests.support.service import Response, Service, parse_response
from tests.support.tenants import Tenants
from tests.support.waiting import wait_until

KB, MB = 1 << 10, 1 << 20
UPLOAD = "/api/scans/upload"


@pytest.fixture(scope="module")
def service(database_url: str) -> Iterator[Service]:
    """Run the service behind nginx for all tests."""
    with deployed(database_url) as service:
        yield service


def post(
    service: Service, path: str, body: bytes, headers: dict[str, str], *, chunked: bool = False
) -> Response:
    """Send a body with its Content-Length or in one chunk, and return the response."""
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close", length]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if chunked:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    received = b""
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as conn:
        # nginx may respond and close the connection before it has received everything.
        with suppress(ConnectionError):
            conn.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        with suppress(ConnectionError):
            while part := conn.recv(65536):
                received += part
    return parse_response(received)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/api/images", 17 * KB, 413),
        ("/api/images", 30 * MB, 413),
        ("/nothing", 17 * KB, 413),
        ("//api/scans/upload", 17 * KB, 413),
        ("/api/scans/upload/", 17 * KB, 413),
        ("/api/images", 15 * KB, 405),
        ("/nothing", 15 * KB, 404),
        (UPLOAD, 65 * MB, 413),
    ],
)
def test_large_body_of_any_route_is_refused_in_the_envelope(
    service: Service, tenants: Tenants, path: str, size: int, status: int, chunked: bool
) -> None:
    headers = {"X-API-Key": tenants.acme.add_key(Role.CI), "Content-Type": "application/json"}
    response = post(service, path, b" " * size, headers, chunked=chunked)
    assert (response.status, set(response.json)) == (status, {"error"})


def test_large_upload_without_permission_returns_its_own_status_not_503(
    service: Service, tenants: Tenants
) -> None:
    body = envelope() + b" " * (60 * MB)
    is_json = {"Content-Type": "application/json"}
    ci = tenants.acme.add_key(Role.CI)
    for headers, status in (
        (is_json, 401),
        ({**is_json, "X-API-Key": "hg_ak_" + "0" * 48}, 401),
        ({**is_json, **tenants.acme.headers}, 403),
        ({**is_json, "Authorization": f"Bearer {tenants.acme.token}"}, 403),
        ({"X-API-Key": ci}, 415),
        ({**is_json, "X-API-Key": ci, "Content-Encoding": "gzip"}, 400),
        ({**is_json, "X-API-Key": ci}, 201),
    ):
        for _ in range(2):
            response = post(service, UPLOAD, body, headers)
            assert response.status == status or (status, response.status) == (201, 200), headers
    assert post(service, f"{UPLOAD}?page", body, is_json, chunked=True).status == 401
    assert post(service, "/api/scans/%75pload", body, is_json).status == 401


def test_logs_of_nginx_have_method_and_path_without_the_query(database_url: str) -> None:
    secret = "hg_ak_" + "5ec4e7" * 8
    lines = {
        f"GET /api/images?api_key={secret} HTTP/1.1": ("GET", "/api/images", 401),
        f"GET /api/images?#{secret} HTTP/1.1": ("GET", "/api/images", 401),
        f"GET /api/images#{secret} HTTP/1.1": ("GET", "/api/images", 401),
        f"GET http://x.test/api/images?key={secret} HTTP/1.1": ("GET", "/api/images", 401),
        f"POST /api/none?key={secret} HTTP/1.1": ("POST", "/api/none", 404),
        f"POST /api/images?key={secret} HTTP/1.1\r\nTransfer-Encoding: odd": (
            "POST", "/api/images", 501,
        ),
        f"TRACE /api/images?key={secret} HTTP/1.1": ("TRACE", "/api/images", 405),
        f"GET /api/%zz?key={secret} HTTP/1.1": ("GET", "", 400),
        f"GET /api/images?key={secret} x HTTP/1.1": ("GET", "", 400),
        f"G<T /api/images?key={secret} HTTP/1.1": ("", "", 400),
        f"GET /api/images?key={secret}&x={'x' * 33_000} HTTP/1.1": ("GET", "", 414),
    }  # fmt: skip
    with short_directory() as directory, deployed_in(directory, database_url) as service:
        log = directory / "access.log"
        start = len(log.read_text().splitlines())
        for line in lines:
            service.send(f"{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        # Over the rate limit.
        for _ in range(600):
            line = f"GET /api/images?key={secret} HTTP/1.0\r\nX-API-Key: {secret}\r\n\r\n"
            if service.send(line.encode()).status == 429:
                break
        # If nginx cannot connect to the service, its error log quotes the request line.
        errors = (directory / "error.log").read_text()
        service.stop()
        assert service.request(f"/api/images?key={secret}").status == 503
        wait_until(lambda: '"status":"503"' in log.read_text())
        entries = [json.loads(line) for line in log.read_text().splitlines()[start:]]
        written = log.read_text() + errors
    logged = [(entry["method"], entry["path"], int(entry["status"])) for entry in entries]
    assert logged[: len(lines)] == list(lines.values())
    assert logged[-2:] == [("GET", "/api/images", 429), ("GET", "/api/images", 503)]
    assert secret not in written
    assert secret[6:20] not in written


@pytest.mark.parametrize(
    "path",
    [
        *["//api/images", "///api/images", "/%2Fapi/images", "/%2fapi/images", "/./api/images"],
        *["/api//images", "/api/x/../images", "//x.test/api/images", "http://x//api/images"],
    ],
)
def test_path_that_is_not_exactly_a_route_returns_404_through_nginx(
    service: Service, tenants: Tenants, path: str
) -> None:
    response = service.request(path, tenants.acme.headers)
    assert (response.status, response.json["error"]["code"]) == (404, "NOT_FOUND")
