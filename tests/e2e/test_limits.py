"""Limits that keep one client from affecting the others, with nginx and deploy/nginx.conf."""

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from harborguard.model import Role
from tests.support.fault_injection import deployed
from tests.support.reports import envelope
from tests.support.service import Response, Service, parse_response
from tests.support.tenants import Tenants

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
