"""Uploads to the service as operators run it: memory, bombs, bodies that lie, and races."""

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
    """One worker, so that its memory is that of whoever answers."""
    with serving(
        DATABASE_URL=database_url, HARBORGUARD_WORKERS="1", HARBORGUARD_THREADS="8",
        HARBORGUARD_UPLOADS_PER_MINUTE="100000",
    ) as service:  # fmt: skip
        yield service


@pytest.fixture
def key(tenants: Tenants) -> str:
    """A key that may upload."""
    return tenants.acme.add_key(Role.CI)


def post(
    service: Service, key: str, pieces: Iterable[bytes], headers: dict[str, str]
) -> tuple[Response, int]:
    """The answer to a body that is sent for as long as anybody takes it, and how much was taken."""
    lines = [
        "POST /api/scans/upload HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    taken = 0
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as conn:
        conn.sendall("\r\n".join([*lines, "", ""]).encode())
        try:
            for piece in pieces:
                conn.sendall(piece)
                taken += len(piece)
            conn.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        received = b""
        try:
            while part := conn.recv(65536):
                received += part
        except ConnectionResetError:
            pass
    return parse_response(received), taken


def whole(service: Service, key: str, body: bytes, **headers: str) -> Response:
    """The answer to a body of a told length."""
    return post(service, key, [body], {"Content-Length": str(len(body)), **headers})[0]


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces as HTTP sends those whose length it does not tell."""
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def memory(service: Service, what: str) -> int:
    """A figure of the worker's memory in bytes, as the kernel has it."""
    [worker] = service.workers()
    status = Path(f"/proc/{worker}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith(f"{what}:")]
    return int(line.split()[1]) * 1024


def large_report(size: int) -> bytes:
    """A report of about so many bytes, with what real ones have: many findings, long prose."""
    document = json.loads(envelope(counts=(500, 2000, 6000, 6500)))
    vulnerabilities = document["findings"]["vulnerabilities"]
    prose = "An attacker may do what they should not. " * (size // len(vulnerabilities) // 41)
    for number, entry in enumerate(vulnerabilities):
        entry |= {"packageName": f"package-{number % 900}", "description": prose}
    return json.dumps(document).encode()


def test_it_works(service: Service, tenants: Tenants, key: str) -> None:
    body = envelope(counts=(0, 1))
    first = whole(service, key, body)
    assert (first.status, first.json["success"]) == (201, True)
    pieces = chunked([body[:100], body[100:]])
    replay, _ = post(service, key, pieces, {"Transfer-Encoding": "chunked"})
    assert (replay.status, replay.json) == (200, first.json)


def test_a_large_report_is_held_once(service: Service, tenants: Tenants, key: str) -> None:
    body = large_report(60 * MB)
    assert 58 * MB < len(body) < LIMIT
    assert whole(service, key, envelope(scan_id="a", counts=(1,))).status == 201
    idle = memory(service, "VmRSS")
    started = time.monotonic()

    answer = whole(service, key, body)

    took = time.monotonic() - started
    assert answer.status == 201, answer
    grown = memory(service, "VmHWM") - idle
    print(f"{len(body) / MB:.0f} MB recorded in {took:.1f} s, memory grew by {grown / MB:.0f} MB")
    assert grown < len(body) + 60 * MB
    [row] = service.request("/api/images", tenants.acme.headers).json["data"]
    assert row["vulnerabilities"]["low"] == 6500


def test_what_is_too_large_is_refused_early(service: Service, tenants: Tenants, key: str) -> None:
    """A bomb, 500 MB that say so, 500 MB that do not, and a length that lies."""
    assert whole(service, key, envelope()).status == 201
    piece = b" " * MB
    bomb = zlib.compressobj(9, wbits=31)
    packed = b"".join(bomb.compress(part) for part in repeat(piece, 500)) + bomb.flush()
    assert len(packed) < 500 * MB / 1000
    told = {"Content-Length": str(500 * MB)}
    untold = {"Transfer-Encoding": "chunked"}
    idle, peak = memory(service, "VmRSS"), memory(service, "VmHWM")

    for name, pieces, headers, most_taken, most_grown in (
        ("told", repeat(piece, 500), told, 32 * MB, 4 * MB),
        (
            "bomb",
            [packed],
            {"Content-Length": str(len(packed)), **GZIP},
            len(packed),
            LIMIT + 16 * MB,
        ),
        ("untold", chunked(repeat(piece, 500)), untold, LIMIT + 32 * MB, LIMIT + 16 * MB),
    ):
        started = time.monotonic()
        answer, taken = post(service, key, pieces, headers)
        took = time.monotonic() - started
        assert (answer.status, answer.json["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE"), name
        grown, kept = memory(service, "VmHWM") - peak, memory(service, "VmRSS") - idle
        print(
            f"{name}: refused in {took:.2f} s, {taken / MB:.1f} MB taken, "
            f"peak {grown / MB:+.0f} MB, afterwards {kept / MB:+.0f} MB"
        )
        assert took < 10
        assert taken <= most_taken
        assert grown < most_grown
        assert kept < 8 * MB
    assert service.request("/api/health").status == 200


def test_a_body_that_is_not_as_told(service: Service, tenants: Tenants, key: str) -> None:
    body = envelope()
    for pieces, headers in (
        ([body[:50]], {"Content-Length": str(len(body))}),
        ([body[:50]], {"Content-Length": "50"}),
        ([body], {}),
        ([b"%x\r\n" % len(body), body[:50]], {"Transfer-Encoding": "chunked"}),
        ([b"zz\r\n"], {"Transfer-Encoding": "chunked"}),
        ([gzip.compress(body)[:40]], {"Content-Length": "40", **GZIP}),
    ):
        answer, _ = post(service, key, pieces, headers)
        assert (answer.status, answer.json["error"]["code"]) == (400, "BAD_REQUEST"), headers
    assert whole(service, key, body).status == 201


def test_uploads_race_while_listings_are_whole(
    service: Service, tenants: Tenants, conn: Connection, key: str
) -> None:
    """Sixteen at a time: pairs of one scan, of one image, of new images, all at once."""
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
    over = threading.Event()
    torn: list[object] = []

    def watch() -> int:
        seen = 0
        while not over.is_set():
            for row in service.request("/api/images?limit=200", tenants.acme.headers).json["data"]:
                counts = tuple(row["vulnerabilities"].values())
                seen += 1
                if (row["name"], *counts, row["riskScore"]) not in allowed:
                    torn.append(row)
        return seen

    with ThreadPoolExecutor(17) as threads:
        watching = threads.submit(watch)
        answers = list(threads.map(lambda body: whole(service, key, body), bodies))
        over.set()
    assert sorted({answer.status for answer in answers}) == [200, 201]
    assert sum(answer.status == 201 for answer in answers) == len(bodies) // 2
    assert not torn
    assert watching.result() > 0
    assert image_rows(conn, tenants.acme.organization_id) == {
        name: oracle.image_row(scans) for name, scans in images.items()
    }
