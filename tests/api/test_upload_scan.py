"""POST /api/scans/upload: what is recorded, what is rejected, and the error messages."""

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client import REGISTRY
from werkzeug.test import TestResponse

from app import create_app
from harborguard.config import Config
from harborguard.model import Role
from harborguard.store.connection import Connection, connect
from tests.support.listing import list_images
from tests.support.reports import (
    API,
    SCANNED_AT,
    envelope,
    grype,
    manifest,
    stored_rows,
    trivy,
)
from tests.support.tenants import Tenants
from tests.support.waiting import wait_until

URL = "/api/scans/upload"
DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.fixture
def key(tenants: Tenants) -> str:
    """Return a key with the role ci."""
    return tenants.acme.add_key(Role.CI)


def upload(
    client: FlaskClient, key: str, body: bytes, query: str = "", **headers: str
) -> TestResponse:
    """Post a report and return the response."""
    sent = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(f"{URL}{query}", data=body, headers=sent)


def get_error(conn: Connection, response: TestResponse, status: int, code: str) -> dict[str, Any]:
    """Return the error of a rejected upload; check its status and that nothing is stored."""
    assert response.status_code == status, response.data
    assert response.content_type == "application/json"
    assert response.json is not None
    assert response.json["error"]["code"] == code
    assert not any(stored_rows(conn)[table] for table in ("registries", "images", "tags", "scans"))
    return response.json["error"]


def test_upload_replayed_returns_200_and_changed_returns_409(
    client: FlaskClient, tenants: Tenants, conn: Connection, key: str
) -> None:
    first = upload(client, key, envelope(counts=(0, 4, 1)))
    [row] = list_images(client, tenants.acme)["data"]
    assert (first.status_code, first.content_type) == (201, "application/json")
    assert first.json == {
        "success": True,
        "scanId": first.json["scanId"],
        "imageId": row["id"],
        "image": {"name": "ghcr.io/acme/api", "tag": "1.4.7"},
        "riskScore": 25,
        "grade": "B",
        "vulnerabilities": {"critical": 0, "high": 4, "medium": 1, "low": 0},
    }
    assert row["vulnerabilities"] == {"critical": 0, "high": 4, "medium": 1, "low": 0}
    details = client.get(f"/api/images/{row['id']}", headers=tenants.acme.headers).json
    assert details["data"]["lastScan"]["id"] == first.json["scanId"]
    before = stored_rows(conn)

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
    assert {**stored_rows(conn), "api_keys": []} == {**before, "api_keys": []}
    assert list_images(client, tenants.globex)["data"] == []


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED", "PARTIAL"])
def test_upload_of_an_unfinished_scan_has_no_score_and_no_grade(
    client: FlaskClient, key: str, status: str
) -> None:
    """A pipeline that checks the grade must not take a failed scan for one without findings."""
    body = envelope("ghcr.io/acme/api@" + manifest("a"), (1,), status=status)
    recorded, replayed = upload(client, key, body), upload(client, key, body)
    score = (75, "D") if status == "PARTIAL" else (None, None)
    assert (recorded.json["riskScore"], recorded.json["grade"]) == score
    assert recorded.json["vulnerabilities"] == {"critical": 1, "high": 0, "medium": 0, "low": 0}
    assert recorded.json["image"] == {"name": "ghcr.io/acme/api", "tag": None}
    assert (replayed.status_code, replayed.json) == (200, recorded.json)


def test_partial_scan_without_vulnerabilities_leaves_the_grade(
    client: FlaskClient, tenants: Tenants, key: str
) -> None:
    """The scanner that failed may be the one that found the vulnerabilities."""
    upload(client, key, envelope(counts=(1,), finished_at=SCANNED_AT - timedelta(days=2)))
    partial = upload(client, key, envelope(scan_id="partial", status="PARTIAL"))
    assert (partial.status_code, partial.json["grade"]) == (201, None)
    dockle = upload(client, key, envelope(scan_id="dockle", scanners=("dockle",)))
    assert (dockle.status_code, dockle.json["error"]["code"]) == (400, "VALIDATION_ERROR")
    [image] = list_images(client, tenants.acme)["data"]
    assert (image["grade"], image["riskScore"]) == ("D", 75)


def test_upload_of_an_older_scan_has_the_results_of_that_scan(
    client: FlaskClient, tenants: Tenants, conn: Connection, key: str
) -> None:
    older = trivy(counts=(1,), finished_at=SCANNED_AT - timedelta(days=1))
    assert upload(client, key, trivy(counts=(0, 1))).json["grade"] == "B"
    assert upload(client, key, older).json["grade"] == "D"
    assert list_images(client, tenants.acme)["data"][0]["grade"] == "B"
    conn.execute("UPDATE scans SET grade = 'C', risk_score = 74 WHERE grade = 'D'")
    replay = upload(client, key, older).json
    assert (replay["riskScore"], replay["grade"]) == (74, "C"), "the stored results"


def test_conflict_with_a_scan_of_another_registry_has_no_scan_id_for_a_limited_key(
    client: FlaskClient, tenants: Tenants, conn: Connection, key: str
) -> None:
    registry_id = tenants.acme.add_registry("quay.io")
    limited = tenants.acme.add_key(Role.CI, registry_id=registry_id)
    other = upload(client, key, envelope(scan_id="other")).json["scanId"]
    own = upload(client, key, envelope("quay.io/acme/api:1", scan_id="own")).json["scanId"]
    before = stored_rows(conn)
    uploads = [
        (limited, "quay.io/acme/api:1", "other", None),
        (limited, "quay.io/acme/new:1", "other", None),
        (limited, "quay.io/acme/new:1", "own", own),
        (key, "quay.io/acme/new:1", "other", other),
    ]

    for secret, image, external_id, scan_id in uploads:
        response = upload(client, secret, envelope(image, (1,), scan_id=external_id))
        message = f"Scan {external_id} is already recorded with other content."
        expected = {"error": {"code": "CONFLICT", "message": message}}
        assert response.status_code == 409
        assert response.json == ({**expected, "scanId": scan_id} if scan_id else expected)
    assert {**stored_rows(conn), "api_keys": []} == {**before, "api_keys": []}


@pytest.mark.parametrize("body", [envelope(), trivy(), grype()], ids=["sensor", "trivy", "grype"])
def test_upload_of_every_format_is_recorded(
    client: FlaskClient, tenants: Tenants, key: str, body: bytes
) -> None:
    assert upload(client, key, body).status_code == 201
    assert list_images(client, tenants.acme)["data"][0]["name"] == "ghcr.io/acme/api"


@pytest.mark.parametrize("escaped", [rb"3.0\u0000.1", rb"3.0\ud800.1"], ids=["nul", "surrogate"])
@pytest.mark.parametrize("make", [envelope, trivy, grype])
def test_upload_with_an_unstorable_character_is_recorded_and_replayed(
    client: FlaskClient, tenants: Tenants, conn: Connection, key: str, make: type, escaped: bytes
) -> None:
    body = make(counts=(1, 0, 0, 1)).replace(b'"openssl"', b'"open%s"' % escaped)
    assert upload(client, key, body).status_code == 201
    assert upload(client, key, body).status_code == 200
    [row] = list_images(client, tenants.acme)["data"]
    assert (row["riskScore"], row["vulnerabilities"]["low"]) == (75, 1)
    packages = conn.execute("SELECT DISTINCT package FROM findings").fetchall()
    assert packages == [("open3.0\ufffd.1",)]


def test_upload_with_a_reference_in_the_query_ignores_that_of_the_report(
    client: FlaskClient, tenants: Tenants, key: str
) -> None:
    assert upload(client, key, trivy(), "?image=quay.io%2Fa%2Fb%3A7").status_code == 201
    results = b'[{"Class": "os-pkgs"}]'
    assert upload(client, key, results, "?image=quay.io/a/c").status_code == 201
    assert upload(client, key, envelope(), "?image=%20&other=1").status_code == 201
    named = [
        (row["name"], row["latestTag"])
        for row in list_images(client, tenants.acme, sort="name:asc")["data"]
    ]
    assert named == [("ghcr.io/acme/api", "1.4.7"), ("quay.io/a/b", "7"), ("quay.io/a/c", "latest")]


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", "Application/JSON", "application/vnd.hg+json"],
)
def test_upload_with_a_json_content_type_is_recorded(
    client: FlaskClient, key: str, content_type: str
) -> None:
    assert upload(client, key, envelope(), Content_Type=content_type).status_code == 201


def test_upload_with_gzip_is_recorded(client: FlaskClient, key: str) -> None:
    body = envelope(counts=(0, 0, 0, 900))
    sent = gzip.compress(body)
    assert len(sent) < len(body) / 3
    assert upload(client, key, sent, Content_Encoding="GZip").status_code == 201
    assert upload(client, key, body, Content_Encoding="identity").status_code == 200


@pytest.mark.parametrize("role", [Role.AUDITOR, Role.VIEWER])
def test_upload_with_a_role_below_ci_returns_403(
    client: FlaskClient, tenants: Tenants, conn: Connection, role: Role
) -> None:
    error = get_error(
        conn, upload(client, tenants.acme.add_key(role), envelope()), 403, "FORBIDDEN"
    )
    assert error["message"] == "The role ci or higher is required."


@pytest.mark.parametrize("role", [Role.DEVELOPER, Role.ADMIN, Role.OWNER])
def test_upload_with_a_role_above_ci_is_recorded(
    client: FlaskClient, tenants: Tenants, role: Role
) -> None:
    assert upload(client, tenants.acme.add_key(role), envelope()).status_code == 201


def test_upload_with_an_access_token_returns_403(
    client: FlaskClient, tenants: Tenants, conn: Connection
) -> None:
    error = get_error(conn, upload(client, tenants.acme.token, envelope()), 403, "FORBIDDEN")
    assert error["message"] == "An API key is required."
    get_error(conn, upload(client, "hg_ak_unknown", envelope()), 401, "UNAUTHORIZED")


def test_upload_with_a_key_limited_to_another_registry_returns_403(
    client: FlaskClient, tenants: Tenants, conn: Connection
) -> None:
    registry_id = tenants.acme.add_registry("quay.io")
    limited = tenants.acme.add_key(Role.CI, registry_id=registry_id)
    before = stored_rows(conn)
    for body, query in ((envelope(), ""), (envelope("quay.io/a/b"), "?image=ghcr.io/a/b")):
        response = upload(client, limited, body, query)
        assert response.status_code == 403
        assert (
            response.json["error"]["message"]
            == "This API key can record only images of its registry."
        )
    assert {**stored_rows(conn), "api_keys": []} == {**before, "api_keys": []}
    assert upload(client, limited, envelope(), "?image=quay.io/a/b").status_code == 201


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
        (b"[]", "VALIDATION_ERROR", "$"),
        (envelope().replace(b"scan-of", b"\xff"), "BAD_REQUEST", None),
        (envelope(counts=(1,)).replace(b"7.5", b"NaN"), "BAD_REQUEST", None),
        (DEEP, "VALIDATION_ERROR", "[0]"),
        (b'{"scan":' + DEEP + b"}", "BAD_REQUEST", None),
        (envelope("UPPER/case"), "VALIDATION_ERROR", "image.ref"),
        (envelope().replace(b"2026-04", b"9026-04"), "VALIDATION_ERROR", "scan.finishedAt"),
        (gzip.compress(envelope()), "BAD_REQUEST", None),
    ],
    ids=["empty", "null", "object", "cut", "mark", "utf-16", "status", "nul", "silent", "bytes",
         "nan", "deep", "deep object", "reference", "future", "nested gzip"],
)  # fmt: skip
def test_upload_of_an_invalid_body_returns_400_with_its_path(
    client: FlaskClient, conn: Connection, key: str, body: bytes, code: str, path: str | None
) -> None:
    error = get_error(
        conn, upload(client, key, body, "?image=a/b" if body[:1] == b"[" else ""), 400, code
    )
    assert (error.get("issues") or [{"path": None}])[0]["path"] == path


def test_upload_with_an_invalid_reference_returns_400(
    client: FlaskClient, conn: Connection, key: str
) -> None:
    error = get_error(conn, upload(client, key, envelope(), "?image=A//B"), 400, "BAD_REQUEST")
    assert error["issues"][0]["path"] == "image"
    error = get_error(conn, upload(client, key, envelope(), "?image=a&image=b"), 400, "BAD_REQUEST")
    assert error["issues"][0]["path"] == "image"


def test_upload_with_another_content_type_or_encoding_returns_415(
    client: FlaskClient, conn: Connection, key: str
) -> None:
    for headers in (
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Content_Type": ""},
        {"Content_Encoding": "br"},
        {"Content_Encoding": "gzip, gzip"},
    ):
        get_error(conn, upload(client, key, envelope(), **headers), 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", gzip.compress(envelope())[:-1], gzip.compress(envelope())[:-9],
     gzip.compress(envelope()) + b"x", gzip.compress(envelope()) * 2,
     gzip.compress(envelope())[:-8] + b"12345678"],
    ids=["empty", "plain", "cut", "cut more", "more", "twice", "checksum"],
)  # fmt: skip
def test_upload_of_an_invalid_gzip_stream_returns_400(
    client: FlaskClient, conn: Connection, key: str, body: bytes
) -> None:
    error = get_error(conn, upload(client, key, body, Content_Encoding="gzip"), 400, "BAD_REQUEST")
    assert error["message"] == "The body is not one complete gzip stream."


@pytest.fixture
def limited_client(config: Config, conn: Connection) -> Iterator[FlaskClient]:
    """Yield a client of a service that accepts 2000 bytes, and three new scans a minute."""
    app = create_app(replace(config, max_upload_bytes=2000, new_scans_per_minute=3))
    with app.extensions["harborguard"].pool:
        yield app.test_client(use_cookies=False)


def test_upload_too_large_returns_413(
    limited_client: FlaskClient, conn: Connection, key: str
) -> None:
    body = envelope()
    padded = body + b" " * (2001 - len(body))
    for sent, coding in ((padded, "identity"), (gzip.compress(padded), "gzip")):
        response = upload(limited_client, key, sent, Content_Encoding=coding)
        error = get_error(conn, response, 413, "PAYLOAD_TOO_LARGE")
        assert error["message"] == "The body is larger than 2000 bytes."
    assert upload(limited_client, key, padded[:-1]).status_code == 201


def test_new_scan_beyond_the_rate_limit_returns_429_and_replays_do_not(
    limited_client: FlaskClient, tenants: Tenants, conn: Connection, key: str
) -> None:
    first, *others = (envelope(scan_id=f"scan-{number}") for number in range(4))
    assert [upload(limited_client, key, first).status_code for _ in range(5)] == [201, *[200] * 4]
    assert [upload(limited_client, key, body).status_code for body in others[:2]] == [201, 201]
    before = stored_rows(conn)
    response = upload(limited_client, key, others[2], "?image=ghcr.io/acme/new:1")
    assert response.status_code == 429
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert response.json == {
        "error": {"code": "RATE_LIMITED", "message": "At most 3 new scans per minute are allowed."}
    }
    assert stored_rows(conn) == before
    assert upload(limited_client, key, first).status_code == 200
    assert upload(limited_client, key, envelope(counts=(1,), scan_id="scan-0")).status_code == 409
    other_key = tenants.acme.add_key(Role.CI)
    assert upload(limited_client, other_key, others[2]).status_code == 201


def test_clean_scan_replaces_the_findings_of_an_earlier_one_by_the_same_scanners(
    client: FlaskClient, tenants: Tenants, key: str
) -> None:
    """Only one of two scanners found something, and then neither did."""
    dirty = json.loads(envelope(counts=(1,), scanners=("trivy",)))
    dirty["sensor"]["scannerVersions"]["grype"] = "0.86.1"
    clean = envelope(
        scan_id="clean",
        finished_at=SCANNED_AT + timedelta(hours=1),
        scanners=("grype", "trivy"),
    )
    for body, grade in ((json.dumps(dirty).encode(), "D"), (clean, "A")):
        assert upload(client, key, body).status_code == 201
        [row] = list_images(client, tenants.acme)["data"]
        assert row["grade"] == grade
    details = client.get(f"/api/images/{row['id']}", headers=tenants.acme.headers).json["data"]
    assert (details["lastScan"]["scanners"], details["otherScans"]) == (["grype", "trivy"], [])


def test_upload_beyond_the_rate_limit_is_not_counted_as_rejected(
    limited_client: FlaskClient, key: str
) -> None:
    def count(outcome: str) -> float:
        values = [
            REGISTRY.get_sample_value(
                "harborguard_uploads_total", {"scanner": scanner, "outcome": outcome}
            )
            for scanner in ("trivy", "grype", "other")
        ]
        return sum(value or 0 for value in values)

    before = {outcome: count(outcome) for outcome in ("new", "replay", "rejected")}
    bodies = [*(envelope(scan_id=f"scan-{number}") for number in range(4)), b"{}"]
    statuses = [upload(limited_client, key, body).status_code for body in bodies]
    assert statuses == [201, 201, 201, 429, 400]
    counted = {outcome: count(outcome) - number for outcome, number in before.items()}
    assert counted == {"new": 3, "replay": 0, "rejected": 1}


def test_upload_with_get_returns_405(client: FlaskClient, key: str) -> None:
    response = client.get(URL, headers={"X-API-Key": key})
    assert response.status_code == 405
    assert sorted(response.headers["Allow"].split(", ")) == ["DELETE", "OPTIONS", "POST"]


def test_upload_after_a_deadlock_is_retried(
    client: FlaskClient, tenants: Tenants, config: Config, conn: Connection, key: str
) -> None:
    """Another transaction locks the scan's identity, then waits for its image.

    PostgreSQL looks for a deadlock once, one second after a wait begins. So both wait for the image
    until `gate` releases it: the upload first, then the other transaction. The deadlock then begins
    with the wait of the upload, however slow this machine is.
    """
    assert upload(client, key, envelope(scan_id="first")).status_code == 201

    def count_waiting() -> int:
        [waiting] = conn.execute(
            "SELECT count(*) FROM pg_locks AS lock JOIN pg_stat_activity USING (pid)"
            " WHERE datname = current_database() AND NOT lock.granted"
        ).fetchone() or [0]
        return waiting

    with connect(config) as gate, connect(config) as other, ThreadPoolExecutor(2) as threads:
        with other.transaction(force_rollback=True):
            other.execute("SET LOCAL deadlock_timeout = '30s'")
            other.execute("UPDATE scans SET external_id = 'second'")
            with gate.transaction():
                gate.execute("SELECT FROM images FOR UPDATE")
                upload_result = threads.submit(upload, client, key, envelope(scan_id="second"))
                wait_until(lambda: count_waiting() == 1)
                locking = threads.submit(other.execute, "SELECT FROM images FOR UPDATE")
                wait_until(lambda: count_waiting() == 2)
            locking.result()
        assert upload_result.result().status_code == 201
    assert API.startswith(list_images(client, tenants.acme)["data"][0]["name"])
    assert json.loads(upload_result.result().data)["success"]
