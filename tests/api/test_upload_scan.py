"""POST /api/scans/upload: what is recorded, what is refused, and in which words."""

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import sleep
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from harborguard.config import Config
from harborguard.model import Role
from harborguard.store.connection import Connection, connect
from tests.support.listing import ask
from tests.support.reports import API, envelope, grype, stored, trivy
from tests.support.tenants import Tenants

URL = "/api/scans/upload"
SCORE = "findings.vulnerabilities[0].cvssScore"
DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.fixture
def key(tenants: Tenants) -> str:
    """A key that may upload."""
    return tenants.acme.add_key(Role.CI)


def upload(
    client: FlaskClient, key: str, body: bytes, query: str = "", **headers: str
) -> TestResponse:
    """Posts a report as a pipeline does."""
    sent = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(f"{URL}{query}", data=body, headers=sent)


def refused(conn: Connection, response: TestResponse, status: int, code: str) -> dict[str, Any]:
    """The error, which must be in the envelope; nothing is stored."""
    assert response.status_code == status, response.data
    assert response.content_type == "application/json"
    assert response.json is not None
    assert response.json["error"]["code"] == code
    assert not any(stored(conn)[table] for table in ("registries", "images", "tags", "scans"))
    return response.json["error"]


def test_it_works(client: FlaskClient, tenants: Tenants, conn: Connection, key: str) -> None:
    """Recorded; recorded before; recorded with other content."""
    first = upload(client, key, envelope(counts=(0, 4, 1)))
    [row] = ask(client, tenants.acme)["data"]
    assert (first.status_code, first.content_type) == (201, "application/json")
    assert first.json == {
        "success": True,
        "scanId": first.json["scanId"],
        "imageId": row["id"],
    }
    assert row["vulnerabilities"] == {"critical": 0, "high": 4, "medium": 1, "low": 0}
    details = client.get(f"/api/images/{row['id']}", headers=tenants.acme.headers).json
    assert details["data"]["lastScan"]["id"] == first.json["scanId"]
    before = stored(conn)

    replay = upload(client, key, envelope(counts=(0, 4, 1)))
    conflict = upload(client, key, envelope(counts=(1,)))

    assert (replay.status_code, replay.json) == (200, first.json)
    assert conflict.status_code == 409
    assert conflict.json == {
        "error": {
            "code": "CONFLICT",
            "message": "Scan scan-of-the-sensor is already recorded with other content.",
        },
        "scanId": first.json["scanId"],
    }
    assert {**stored(conn), "api_keys": []} == {**before, "api_keys": []}
    assert ask(client, tenants.globex)["data"] == []


@pytest.mark.parametrize("body", [envelope(), trivy(), grype()], ids=["sensor", "trivy", "grype"])
def test_every_format(client: FlaskClient, tenants: Tenants, key: str, body: bytes) -> None:
    assert upload(client, key, body).status_code == 201
    assert ask(client, tenants.acme)["data"][0]["name"] == "ghcr.io/acme/api"


def test_the_callers_reference_wins(client: FlaskClient, tenants: Tenants, key: str) -> None:
    assert upload(client, key, trivy(), "?image=quay.io%2Fa%2Fb%3A7").status_code == 201
    assert upload(client, key, b"[]", "?image=quay.io/a/c").status_code == 201
    assert upload(client, key, envelope(), "?image=%20&other=1").status_code == 201
    named = [
        (row["name"], row["latestTag"])
        for row in ask(client, tenants.acme, sort="name:asc")["data"]
    ]
    assert named == [("ghcr.io/acme/api", "1.4.7"), ("quay.io/a/b", "7"), ("quay.io/a/c", "latest")]


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", "Application/JSON", "application/vnd.hg+json"],
)
def test_types_of_json(client: FlaskClient, key: str, content_type: str) -> None:
    assert upload(client, key, envelope(), Content_Type=content_type).status_code == 201


def test_gzip(client: FlaskClient, key: str) -> None:
    body = envelope(counts=(0, 0, 0, 900))
    sent = gzip.compress(body)
    assert len(sent) < len(body) / 3
    assert upload(client, key, sent, Content_Encoding="GZip").status_code == 201
    assert upload(client, key, body, Content_Encoding="identity").status_code == 200


@pytest.mark.parametrize("role", [Role.AUDITOR, Role.VIEWER])
def test_a_role_below_ci_is_refused(
    client: FlaskClient, tenants: Tenants, conn: Connection, role: Role
) -> None:
    error = refused(conn, upload(client, tenants.acme.add_key(role), envelope()), 403, "FORBIDDEN")
    assert error["message"] == "This needs the role ci or a higher one."


@pytest.mark.parametrize("role", [Role.DEVELOPER, Role.ADMIN, Role.OWNER])
def test_a_role_above_may(client: FlaskClient, tenants: Tenants, role: Role) -> None:
    assert upload(client, tenants.acme.add_key(role), envelope()).status_code == 201


def test_a_person_may_not(client: FlaskClient, tenants: Tenants, conn: Connection) -> None:
    error = refused(conn, upload(client, tenants.acme.token, envelope()), 403, "FORBIDDEN")
    assert error["message"] == "This needs an API key."
    refused(conn, upload(client, "hg_ak_unknown", envelope()), 401, "UNAUTHORIZED")


def test_a_bound_key_records_its_own_registry_alone(
    client: FlaskClient, tenants: Tenants, conn: Connection
) -> None:
    registry_id = tenants.acme.add_registry("quay.io")
    bound = tenants.acme.add_key(Role.CI, registry_id=registry_id)
    before = stored(conn)
    for body, query in ((envelope(), ""), (envelope("quay.io/a/b"), "?image=ghcr.io/a/b")):
        response = upload(client, bound, body, query)
        assert response.status_code == 403
        assert (
            response.json["error"]["message"]
            == "This API key may only record images of its registry."
        )
    assert {**stored(conn), "api_keys": []} == {**before, "api_keys": []}
    assert upload(client, bound, envelope(), "?image=quay.io/a/b").status_code == 201


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (b"", "BAD_REQUEST", None),
        (b"null", "VALIDATION_ERROR", "$"),
        (b"{}", "VALIDATION_ERROR", "$"),
        (b"{", "BAD_REQUEST", None),
        (b"\xef\xbb\xbf{}", "BAD_REQUEST", None),
        (envelope().decode().encode("utf-16"), "BAD_REQUEST", None),
        (envelope().replace(b"SUCCESS", b"odd"), "VALIDATION_ERROR", "scan.status"),
        (envelope().replace(b"scan-of", b"\\u0000"), "VALIDATION_ERROR", "scan.id"),
        (envelope().replace(b"scan-of", b"\\ud800"), "BAD_REQUEST", None),
        (envelope().replace(b"scan-of", b"\xff"), "BAD_REQUEST", None),
        (envelope(counts=(1,)).replace(b"7.5", b"NaN"), "BAD_REQUEST", None),
        (envelope(counts=(1,)).replace(b"7.5", b"1e999"), "VALIDATION_ERROR", SCORE),
        (envelope(counts=(1,)).replace(b"7.5", b"9" * 5000), "VALIDATION_ERROR", SCORE),
        (DEEP, "VALIDATION_ERROR", "[0]"),
        (b'{"scan":' + DEEP + b"}", "BAD_REQUEST", None),
        (envelope("UPPER/case"), "VALIDATION_ERROR", "image.ref"),
        (envelope().replace(b"2026-04", b"9026-04"), "VALIDATION_ERROR", "finishedAt"),
        (gzip.compress(envelope()), "BAD_REQUEST", None),
    ],
    ids=["empty", "null", "object", "cut", "mark", "utf-16", "status", "nul", "surrogate", "bytes",
         "nan", "huge", "digits", "deep", "deep object", "reference", "future", "nested gzip"],
)  # fmt: skip
def test_a_broken_body_is_named(
    client: FlaskClient, conn: Connection, key: str, body: bytes, code: str, path: str | None
) -> None:
    error = refused(
        conn, upload(client, key, body, "" if body != DEEP else "?image=a/b"), 400, code
    )
    assert (error.get("issues") or [{"path": None}])[0]["path"] == path


def test_a_broken_reference_is_named(client: FlaskClient, conn: Connection, key: str) -> None:
    error = refused(conn, upload(client, key, envelope(), "?image=A//B"), 400, "BAD_REQUEST")
    assert error["issues"][0]["path"] == "image"
    error = refused(conn, upload(client, key, envelope(), "?image=a&image=b"), 400, "BAD_REQUEST")
    assert error["issues"][0]["path"] == "image"


def test_another_type_is_refused(client: FlaskClient, conn: Connection, key: str) -> None:
    for headers in (
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Content_Type": ""},
        {"Content_Encoding": "br"},
        {"Content_Encoding": "gzip, gzip"},
    ):
        refused(conn, upload(client, key, envelope(), **headers), 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", gzip.compress(envelope())[:-1], gzip.compress(envelope())[:-9],
     gzip.compress(envelope()) + b"x", gzip.compress(envelope()) * 2,
     gzip.compress(envelope())[:-8] + b"12345678"],
    ids=["empty", "plain", "cut", "cut more", "more", "twice", "checksum"],
)  # fmt: skip
def test_a_broken_gzip_stream(client: FlaskClient, conn: Connection, key: str, body: bytes) -> None:
    error = refused(conn, upload(client, key, body, Content_Encoding="gzip"), 400, "BAD_REQUEST")
    assert error["message"] == "The body is not one whole gzip stream."


@pytest.fixture
def small(config: Config, conn: Connection) -> Iterator[FlaskClient]:
    """A service that takes 2,000 bytes, three times a minute."""
    app = create_app(replace(config, max_upload_bytes=2000, uploads_per_minute=3))
    with app.extensions["harborguard"].pool:
        yield app.test_client(use_cookies=False)


def test_a_large_body_is_refused(small: FlaskClient, conn: Connection, key: str) -> None:
    body = envelope()
    padded = body + b" " * (2001 - len(body))
    for sent, coding in ((padded, "identity"), (gzip.compress(padded), "gzip")):
        response = upload(small, key, sent, Content_Encoding=coding)
        error = refused(conn, response, 413, "PAYLOAD_TOO_LARGE")
        assert error["message"] == "The body is larger than 2000 bytes."
    assert upload(small, key, padded[:-1]).status_code == 201


def test_a_key_has_a_budget(small: FlaskClient, tenants: Tenants, key: str) -> None:
    assert [upload(small, key, envelope()).status_code for _ in range(3)] == [201, 200, 200]
    response = upload(small, key, envelope())
    assert response.status_code == 429
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert response.json == {
        "error": {"code": "RATE_LIMITED", "message": "At most 3 a minute are allowed."}
    }
    assert upload(small, tenants.acme.add_key(Role.CI), envelope()).status_code == 200


def test_get_is_no_way_to_upload(client: FlaskClient, key: str) -> None:
    response = client.get(URL, headers={"X-API-Key": key})
    assert response.status_code == 405
    assert sorted(response.headers["Allow"].split(", ")) == ["OPTIONS", "POST"]


def test_what_deadlocks_is_done_again(
    client: FlaskClient, tenants: Tenants, config: Config, conn: Connection, key: str
) -> None:
    """Another transaction holds the scan's identity and then wants its image."""
    assert upload(client, key, envelope(scan_id="first")).status_code == 201
    with (
        connect(config) as other,
        ThreadPoolExecutor(1) as thread,
        other.transaction(force_rollback=True),
    ):
        other.execute("SET LOCAL deadlock_timeout = '30s'")
        other.execute("UPDATE scans SET external_id = 'second'")
        answer = thread.submit(upload, client, key, envelope(scan_id="second"))
        while not conn.execute(
            "SELECT 1 FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND query LIKE '%%INSERT INTO scans%%'"
        ).fetchone():
            sleep(0.02)
        other.execute("SELECT FROM images FOR UPDATE")
    assert answer.result().status_code == 201
    assert API.startswith(ask(client, tenants.acme)["data"][0]["name"])
    assert json.loads(answer.result().data)["success"]
