"""Uploads to a running service: memory, gzip bombs, wrong lengths, and races."""

import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import repeat
from pathlib import Path

import pytest

from harborguard.model import Role
from harborguard.store.connection import Connection
from tests.support import oracle
from tests.support.reports import SCANNED_AT, envelope, image_rows
from tests.support.service import Response, Service, parse_response, serving
from tests.support.tenants import Tenants

MB = 1 << 20
LIMIT = 64 * MB
GZIP = {"Content-Encoding": "gzip"}


@pytest.fixture
def service(database_url: str, conn: Connection) -> Iterator[Service]:
    """Start a service with one worker, whose memory the tests measure."""
    with serving(
        DATABASE_URL=database_url, HARBORGUARD_WORKERS="1", HARBORGUARD_THREADS="8",
        HARBORGUARD_NEW_SCANS_PER_MINUTE="100000",
    ) as service:  # fmt: skip
        yield service


@pytest.fixture
def key(tenants: Tenants) -> str:
    """Return a key with the role ci."""
    return tenants.acme.add_key(Role.CI)


def post(
    service: Service, key: str, pieces: Iterable[bytes], headers: dict[str, str]
) -> tuple[Response, int]:
    """Send a body until the service stops reading; return the response and the bytes sent."""
    lines = [
        "POST /api/scans/upload HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    sent = 0
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as conn:
        conn.sendall("\r\n".join([*lines, "", ""]).encode())
        try:
            for piece in pieces:
                conn.sendall(piece)
                sent += len(piece)
            conn.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        received = b""
        try:
            while part := conn.recv(65536):
                received += part
        except ConnectionResetError:
            pass
    return parse_response(received), sent


def post_body(service: Service, key: str, body: bytes, **headers: str) -> Response:
    """Send a body with its Content-Length and return the response."""
    return post(service, key, [body], {"Content-Length": str(len(body)), **headers})[0]


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces in the chunked transfer coding."""
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def memory(service: Service, name: str) -> int:
    """Return a value of the worker's /proc status in bytes."""
    [worker] = service.workers()
    status = Path(f"/proc/{worker}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


def large_report(size: int) -> bytes:
    """Return a report of about `size` bytes with many findings and long descriptions."""
    document = json.loads(envelope(counts=(500, 2000, 6000, 6500)))
    vulnerabilities = document["findings"]["vulnerabilities"]
    description = "An attacker may read all of the memory. " * (size // len(vulnerabilities) // 40)
    for number, entry in enumerate(vulnerabilities):
        entry |= {"packageName": f"package-{number % 900}", "description": description}
    return json.dumps(document).encode()


def test_upload_replayed_in_chunks_returns_200(
    service: Service, tenants: Tenants, key: str
) -> None:
    body = envelope(counts=(0, 1))
    first = post_body(service, key, body)
    assert (first.status, first.json["success"]) == (201, True)
    pieces = chunked([body[:100], body[100:]])
    replay, _ = post(service, key, pieces, {"Transfer-Encoding": "chunked"})
    assert (replay.status, replay.json) == (200, first.json)


def test_upload_of_a_large_report_is_held_in_memory_once(
    service: Service, tenants: Tenants, key: str
) -> None:
    body = large_report(60 * MB)
    assert 58 * MB < len(body) < LIMIT
    assert post_body(service, key, envelope(scan_id="a", counts=(1,))).status == 201
    idle = memory(service, "VmRSS")
    started = time.monotonic()

    response = post_body(service, key, body)

    took = time.monotonic() - started
    assert response.status == 201, response
    grown = memory(service, "VmHWM") - idle
    print(f"{len(body) / MB:.0f} MB recorded in {took:.1f} s, memory grew by {grown / MB:.0f} MB")
    assert grown < len(body) + 60 * MB
    [row] = service.request("/api/images", tenants.acme.headers).json["data"]
    assert row["vulnerabilities"]["low"] == 6500


def test_upload_too_large_is_rejected_before_it_is_read(
    service: Service, tenants: Tenants, key: str
) -> None:
    """500 MB with a Content-Length, as a gzip bomb, and in chunks."""
    assert post_body(service, key, envelope()).status == 201
    piece = b" " * MB
    bomb = zlib.compressobj(9, wbits=31)
    packed = b"".join(bomb.compress(part) for part in repeat(piece, 500)) + bomb.flush()
    assert len(packed) < 500 * MB / 1000
    declared = {"Content-Length": str(500 * MB)}
    undeclared = {"Transfer-Encoding": "chunked"}
    idle, peak = memory(service, "VmRSS"), memory(service, "VmHWM")

    for name, pieces, headers, max_sent, max_grown in (
        ("declared", repeat(piece, 500), declared, 32 * MB, 4 * MB),
        (
            "bomb",
            [packed],
            {"Content-Length": str(len(packed)), **GZIP},
            len(packed),
            LIMIT + 16 * MB,
        ),
        ("undeclared", chunked(repeat(piece, 500)), undeclared, LIMIT + 32 * MB, LIMIT + 16 * MB),
    ):
        started = time.monotonic()
        response, sent = post(service, key, pieces, headers)
        took = time.monotonic() - started
        assert (response.status, response.json["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE"), name
        grown, kept = memory(service, "VmHWM") - peak, memory(service, "VmRSS") - idle
        print(
            f"{name}: rejected in {took:.2f} s, {sent / MB:.1f} MB sent, "
            f"peak {grown / MB:+.0f} MB, afterwards {kept / MB:+.0f} MB"
        )
        assert took < 10
        assert sent <= max_sent
        assert grown < max_grown
        assert kept < 8 * MB
    assert service.request("/api/health").status == 200


def test_upload_with_a_wrong_length_or_coding_returns_400(
    service: Service, tenants: Tenants, key: str
) -> None:
    body = envelope()
    for pieces, headers in (
        ([body[:50]], {"Content-Length": str(len(body))}),
        ([body[:50]], {"Content-Length": "50"}),
        ([body], {}),
        ([b"%x\r\n" % len(body), body[:50]], {"Transfer-Encoding": "chunked"}),
        ([b"zz\r\n"], {"Transfer-Encoding": "chunked"}),
        ([gzip.compress(body)[:40]], {"Content-Length": "40", **GZIP}),
    ):
        response, _ = post(service, key, pieces, headers)
        assert (response.status, response.json["error"]["code"]) == (400, "BAD_REQUEST"), headers
    assert post_body(service, key, body).status == 201


def test_uploads_at_once_never_show_a_partial_row(
    service: Service, tenants: Tenants, conn: Connection, key: str
) -> None:
    """Sixteen threads upload pairs of the same scan, of the same image, and of new images."""
    images = {
        f"r{n % 3}.test/acme/{n}": [
            oracle.Scan(
                f"{n}-{scan}",
                SCANNED_AT + timedelta(minutes=scan),
                tag=f"1.{scan % 2}",
                counts=(scan % 2, scan, n % 5, 1),
            )
            for scan in range(4)
        ]
        for n in range(12)
    }
    bodies = [
        envelope(
            f"{name}:{scan.tag}", scan.counts, scan_id=scan.identity, finished_at=scan.finished_at
        )
        for step in range(4)
        for name, scans in images.items()
        for scan in (scans[step], scans[step])
    ]
    allowed = {
        (name, *scan.counts, oracle.score_of(scan.counts)) for name, [*scans] in images.items() for scan in scans
    }  # fmt: skip
    finished = threading.Event()
    wrong: list[object] = []

    def watch() -> int:
        rows = 0
        while not finished.is_set():
            for row in service.request("/api/images?limit=200", tenants.acme.headers).json["data"]:
                counts = tuple(row["vulnerabilities"].values())
                rows += 1
                if (row["name"], *counts, row["riskScore"]) not in allowed:
                    wrong.append(row)
        return rows

    with ThreadPoolExecutor(17) as threads:
        watching = threads.submit(watch)
        responses = list(threads.map(lambda body: post_body(service, key, body), bodies))
        finished.set()
    assert sorted({response.status for response in responses}) == [200, 201]
    assert sum(response.status == 201 for response in responses) == len(bodies) // 2
    assert not wrong
    assert watching.result() > 0
    assert image_rows(conn, tenants.acme.organization_id) == {
        name: oracle.image_row(scans) for name, scans in images.items()
    }
