"""GET /api/images/{image_id}, its tags and its vulnerabilities."""

import json
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from harborguard.config import Config
from harborguard.ingest import ingest_report
from harborguard.model import Severity
from harborguard.store.connection import Connection, connect
from harborguard.store.statements import STATEMENTS
from tests.support.listing import list_images
from tests.support.reports import RECEIVED_AT, SCANNED_AT, envelope, grype, manifest, trivy
from tests.support.tenants import Tenant, Tenants

COUNTS = (1, 4, 2, 3, 2, 1, 1)
PATHS = ("", "/tags", "/vulnerabilities")


def record(tenant: Tenant, body: bytes) -> str:
    """Record a report and return the id of its image."""
    recorded = ingest_report(tenant.conn, tenant.organization_id, body, received_at=RECEIVED_AT)
    return recorded.image_id


def get(client: FlaskClient, tenant: Tenant, path: str) -> Any:
    """Return the body of a response, which must be 200."""
    response = client.get(f"/api/images/{path}", headers=tenant.headers)
    assert response.status_code == 200, response.data
    return response.json


def test_image_has_the_row_of_the_list_its_registry_and_its_last_scan(
    client: FlaskClient, tenants: Tenants, statements: list[str]
) -> None:
    image_id = record(tenants.acme, envelope(counts=(0, 4, 1, 2)))
    [row] = list_images(client, tenants.acme)["data"]
    statements.clear()

    body = get(client, tenants.acme, image_id)

    assert len(statements) == 2
    assert body == {
        "data": {
            **row,
            "registry": {"id": row["registryId"], "name": "ghcr.io", "provider": "generic"},
            "lastScan": {
                "id": body["data"]["lastScan"]["id"],
                "status": "SUCCESS",
                "scanners": ["trivy"],
                "finishedAt": row["lastScannedAt"],
            },
            "otherScans": [],
        }
    }
    assert (row["id"], row["vulnerabilities"]["high"]) == (image_id, 4)


def test_never_scanned_image_has_no_last_scan(client: FlaskClient, tenants: Tenants) -> None:
    image_id = record(tenants.acme, envelope(status="FAILED"))
    body = get(client, tenants.acme, image_id)
    assert body["data"]["lastScan"] is None
    assert body["data"]["otherScans"] == []
    assert body["data"]["riskScore"] is None
    assert get(client, tenants.acme, f"{image_id}/vulnerabilities")["data"] == []
    [tag] = get(client, tenants.acme, f"{image_id}/tags")["data"]
    assert (tag["scanned"], tag["riskScore"], tag["lastScannedAt"]) == (False, None, None)


def test_image_of_several_scanners_has_the_scan_that_counts_and_the_compared_ones(
    client: FlaskClient, tenants: Tenants, statements: list[str]
) -> None:
    """Rows, tags and vulnerabilities are those of the highest score; the time is the newest."""
    hour = timedelta(hours=1)
    reports = [
        grype(counts=(2, 1), finished_at=SCANNED_AT - hour, digest=manifest("a")),
        envelope(counts=(0, 1), finished_at=SCANNED_AT - 2 * hour, scanners=("dive", "syft"), status="PARTIAL"),
        envelope(scan_id="other build", digest=manifest("b"), counts=(9,), finished_at=SCANNED_AT - hour, scanners=("dive",)),
        trivy(counts=(0, 0, 1), digest=manifest("a")),
    ]  # fmt: skip
    recorded = [
        ingest_report(
            tenants.acme.conn, tenants.acme.organization_id, body, received_at=RECEIVED_AT
        )
        for body in reports
    ]
    image_id = recorded[0].image_id
    statements.clear()

    image = get(client, tenants.acme, image_id)["data"]

    assert len(statements) == 2
    assert (image["riskScore"], image["grade"]) == (75, "D")
    assert image["vulnerabilities"] == {"critical": 2, "high": 1, "medium": 0, "low": 0}
    assert image["lastScannedAt"] == "2026-04-26T14:22:11.000Z"
    assert image["lastScan"] == {
        "id": recorded[0].scan_id,
        "status": "SUCCESS",
        "scanners": ["grype"],
        "finishedAt": "2026-04-26T13:22:11.000Z",
    }
    assert image["otherScans"] == [
        {
            "id": recorded[1].scan_id,
            "status": "PARTIAL",
            "scanners": ["dive", "syft"],
            "finishedAt": "2026-04-26T12:22:11.000Z",
            "riskScore": 25,
            "grade": "B",
        },
        {
            "id": recorded[3].scan_id,
            "status": "SUCCESS",
            "scanners": ["trivy"],
            "finishedAt": "2026-04-26T14:22:11.000Z",
            "riskScore": 1,
            "grade": "A",
        },
    ]
    [tag] = get(client, tenants.acme, f"{image_id}/tags")["data"]
    for key in ("riskScore", "grade", "vulnerabilities", "lastScannedAt"):
        assert tag[key] == image[key]
    found = get(client, tenants.acme, f"{image_id}/vulnerabilities")
    assert [row["severity"] for row in found["data"]] == ["CRITICAL", "CRITICAL", "HIGH"]
    assert {source for row in found["data"] for source in row["sources"]} == {"grype"}


def test_image_of_many_scanners_has_at_most_sixteen_other_scans(
    client: FlaskClient, tenants: Tenants
) -> None:
    """The score comes from all of them, and those with the highest scores are listed."""
    [image_id] = {
        record(
            tenants.acme,
            envelope(counts=(0, number + 1), scan_id=f"{number}", scanners=(f"s{number:02}",)),
        )
        for number in range(20)
    }
    image = get(client, tenants.acme, image_id)["data"]
    names = [image["lastScan"]["scanners"], *(scan["scanners"] for scan in image["otherScans"])]
    assert names == [[f"s{number:02}"] for number in range(19, 2, -1)]


@pytest.mark.parametrize("path", PATHS)
def test_image_of_another_organization_returns_the_same_404_as_a_missing_image(
    client: FlaskClient, tenants: Tenants, path: str
) -> None:
    image_id = record(tenants.globex, envelope(counts=COUNTS))
    registry_id = tenants.acme.add_registry("quay.io")
    own = record(tenants.acme, envelope(counts=COUNTS))
    limited = tenants.acme.add_key(registry_id=registry_id)

    def get_404(name: str, key: str) -> bytes:
        response = client.get(f"/api/images/{name}{path}", headers={"X-API-Key": key})
        assert response.status_code == 404, response.data
        return response.data

    missing = get_404("img-0000000000000000", tenants.acme.key)
    message = {"code": "NOT_FOUND", "message": "Image not found."}
    assert json.loads(missing) == {"error": message}
    assert get_404(image_id, tenants.acme.key) == missing
    assert get_404(own, limited) == missing
    for name in ("%00", f"{own}%00", "%FF", "é", "x" * 2000, own.upper()):
        assert get_404(name, tenants.acme.key) == missing


def test_image_is_visible_to_a_key_of_its_registry(client: FlaskClient, tenants: Tenants) -> None:
    image_id = record(tenants.acme, envelope(counts=COUNTS))
    key = tenants.acme.add_key(registry_id=tenants.acme.add_registry("ghcr.io"))
    for path in PATHS:
        response = client.get(f"/api/images/{image_id}{path}", headers={"X-API-Key": key})
        assert response.status_code == 200


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
def test_image_without_a_credential_returns_401(
    client: FlaskClient, tenants: Tenants, path: str
) -> None:
    status = client.get(f"/api/images/img-1{path}").status_code
    assert status == (404 if path == "/nothing" else 401)


def test_tags_have_their_digest_times_and_counts(
    client: FlaskClient, tenants: Tenants, statements: list[str]
) -> None:
    """One tag moved, one has only a failed scan, one has no digest."""
    day = timedelta(days=1)
    name = "ghcr.io/acme/api"
    reports = [
        trivy(f"{name}:1.0", (1,), digest=manifest("a"), built_at=SCANNED_AT - 9 * day),
        trivy(f"{name}:1.1", (0, 0, 1), digest=manifest("b"), built_at=SCANNED_AT - 3 * day),
        grype(f"{name}:edge", (0, 2), digest=manifest("a"), finished_at=SCANNED_AT - day),
        envelope(f"{name}:edge", scan_id="moved", digest=manifest("c")),
        envelope(f"{name}:bad", scan_id="bad", status="FAILED"),
    ]
    [image_id] = {record(tenants.acme, body) for body in reports}
    record(tenants.globex, envelope(f"{name}:foreign"))
    statements.clear()

    body = get(client, tenants.acme, f"{image_id}/tags")

    assert len(statements) == 3
    assert [row["name"] for row in body["data"]] == ["edge", "1.1", "1.0", "bad"]
    assert body["data"][0] == {
        "name": "edge",
        "digest": manifest("c"),
        "updatedAt": "2026-04-26T14:22:11.000Z",
        "lastSeenAt": "2026-04-26T14:22:11.000Z",
        "scanned": True,
        "riskScore": 0,
        "grade": "A",
        "vulnerabilities": {"critical": 0, "high": 0, "medium": 0, "low": 0},
        "lastScannedAt": "2026-04-26T14:22:11.000Z",
    }
    assert body["data"][1]["updatedAt"] == "2026-04-23T14:22:11.000Z"
    assert body["data"][2]["vulnerabilities"] == {"critical": 1, "high": 0, "medium": 0, "low": 0}
    assert [row["scanned"] for row in body["data"]] == [True, True, True, False]
    row = get(client, tenants.acme, image_id)["data"]
    assert (row["latestTag"], row["tagCount"]) == ("edge", body["meta"]["total"])
    assert row["latestDigest"] == body["data"][0]["digest"]


def test_tags_are_paginated(client: FlaskClient, tenants: Tenants) -> None:
    ids = {
        record(
            tenants.acme, trivy(f"ghcr.io/acme/api:{n:02}", finished_at=SCANNED_AT + timedelta(n))
        )
        for n in range(7)
    }
    path = f"{ids.pop()}/tags"
    body = get(client, tenants.acme, f"{path}?limit=3&page=3")
    assert [row["name"] for row in body["data"]] == ["00"]
    assert body["links"] == {
        "self": f"/api/images/{path}?page=3&limit=3",
        "prev": f"/api/images/{path}?page=2&limit=3",
    }
    past = get(client, tenants.acme, f"{path}?limit=3&page=9")
    assert (past["data"], past["meta"]["total"]) == ([], 7)
    invalid = client.get(f"/api/images/{path}?limit=0", headers=tenants.acme.headers)
    assert invalid.status_code == 400


def test_vulnerabilities_are_those_of_the_last_scan(
    client: FlaskClient, tenants: Tenants, statements: list[str]
) -> None:
    """The totals by severity are the counts of the image's row."""
    record(
        tenants.acme,
        envelope(counts=(9, 9, 9), scan_id="old", finished_at=SCANNED_AT - timedelta(1)),
    )
    image_id = record(tenants.acme, envelope(counts=COUNTS))
    record(tenants.globex, envelope(counts=(5, 5, 5)))
    row = get(client, tenants.acme, image_id)["data"]
    statements.clear()

    body = get(client, tenants.acme, f"{image_id}/vulnerabilities")

    assert len(statements) == 3
    assert body["data"][0] == {
        "cveId": "CVE-2026-1000",
        "severity": "CRITICAL",
        "cvss": 7.5,
        "epss": None,
        "kev": None,
        "package": "openssl",
        "installedVersion": "3.0.1",
        "fixedVersion": "3.0.2",
        "title": "CVE-2026-1000 in openssl",
        "url": "https://example.org/CVE-2026-1000",
        "sources": ["trivy"],
    }
    severities = [row["severity"] for row in body["data"]]
    assert severities == [word for word, n in zip(Severity, COUNTS, strict=True) for _ in range(n)]
    assert body["meta"]["total"] == sum(COUNTS)
    assert row["vulnerabilities"] == {"critical": 1, "high": 4, "medium": 2, "low": 3}
    for severity, count in row["vulnerabilities"].items():
        listed = get(
            client, tenants.acme, f"{image_id}/vulnerabilities?severity={severity}&limit=1"
        )
        assert listed["meta"]["total"] == count


def test_responses_about_an_image_with_many_scanners_stay_small(
    client: FlaskClient, tenants: Tenants
) -> None:
    vulnerability = {"cveId": "CVE-1", "severity": "LOW", "packageName": "p"}
    document = json.loads(envelope())
    document["findings"]["vulnerabilities"] = [
        vulnerability | {"source": f"{number:05}" + "x" * 500} for number in range(5000)
    ]
    image_id = record(tenants.acme, json.dumps(document).encode())
    for path in PATHS:
        response = client.get(f"/api/images/{image_id}{path}", headers=tenants.acme.headers)
        assert response.status_code == 200
        assert len(response.data) < 4000


def test_list_of_vulnerabilities_does_not_read_scanners(
    client: FlaskClient, tenants: Tenants, statements: list[str]
) -> None:
    image_id = record(tenants.acme, envelope(counts=(1,)))
    statements.clear()
    get(client, tenants.acme, f"{image_id}/vulnerabilities")
    assert not any("scanners" in statement for statement in statements)


def test_vulnerabilities_have_kev_and_epss_of_the_report(
    client: FlaskClient, tenants: Tenants
) -> None:
    added = b'"vulnerability": {"epss": [{"epss": 0.00042}], "knownExploited": [{"cve": "C"}], '
    image_id = record(tenants.acme, grype(counts=(2,)).replace(b'"vulnerability": {', added, 1))
    rows = get(client, tenants.acme, f"{image_id}/vulnerabilities")["data"]
    assert [(row["epss"], row["kev"]) for row in rows] == [(0.00042, True), (None, None)]


@pytest.fixture
def varied(conn: Connection, tenants: Tenants) -> str:
    """Return an image with findings that differ in every filter and order."""
    image_id = record(tenants.acme, envelope(counts=(1, 1, 1, 1)))
    changes = [
        ("CVE-2026-1000", "zlib", None, 5.0, "100% odd_title"),
        ("CVE-2026-1001", "OpenSSL", "3.1", None, None),
        ("CVE-2026-1002", "bash", "5.2", 9.9, "Überlauf"),
        ("CVE-2026-1003", "curl", None, 1.0, "nothing"),
    ]
    for identity, package, fixed, score, title in changes:
        conn.execute(
            "UPDATE findings SET package = %s, fixed_version = %s, cvss_score = %s,"
            " epss = (11 - %s::float) / 100, title = %s WHERE vulnerability_id = %s",
            (package, fixed, score, score, title, identity),
        )
    return image_id


@pytest.mark.parametrize(
    ("query", "expected", "links"),
    [
        ("", "0123", ""),
        ("severity=LOW, critical,,", "03", "severity=CRITICAL%2CLOW"),
        ("severity=,", "0123", ""),
        ("severity=unknown", "", "severity=UNKNOWN"),
        ("package=openssl", "1", "package=openssl"),
        ("package=open", "", "package=open"),
        ("fixable=true", "12", "fixable=true"),
        ("fixable=false", "03", "fixable=false"),
        ("search=cve-2026-1003", "3", "search=cve-2026-1003"),
        ("search=SSL", "1", "search=SSL"),
        ("search=%25", "0", "search=%25"),
        ("search=d_t", "0", "search=d_t"),
        ("search=%5C", "", "search=%5C"),
        ("search=erlauf", "2", "search=erlauf"),
        ("sort=severity:asc", "3210", "sort=severity%3Aasc"),
        ("sort=cvss:desc", "2031", "sort=cvss%3Adesc"),
        ("sort=cvss:asc", "3021", "sort=cvss%3Aasc"),
        ("sort=epss:desc", "3021", "sort=epss%3Adesc"),
        ("sort=epss:asc", "2031", "sort=epss%3Aasc"),
        ("sort=package:asc", "1230", "sort=package%3Aasc"),
        ("sort=package:desc", "0321", "sort=package%3Adesc"),
        ("sort=position:desc", "0123", ""),
        ("fixable=true&severity=medium&search=A&sort=cvss:asc", "2", "severity=MEDIUM&fixable=true&search=A&sort=cvss%3Aasc"),
    ],
)  # fmt: skip
def test_vulnerabilities_query_selects_and_orders_findings(
    client: FlaskClient, tenants: Tenants, varied: str, query: str, expected: str, links: str
) -> None:
    body = get(client, tenants.acme, f"{varied}/vulnerabilities?{query}")
    assert "".join(row["cveId"][-1] for row in body["data"]) == expected
    assert body["meta"]["total"] == len(expected)
    path = f"/api/images/{varied}/vulnerabilities?page=1&limit=50"
    assert body["links"] == {"self": f"{path}&{links}" if links else path}


def test_vulnerabilities_are_paginated(client: FlaskClient, tenants: Tenants, varied: str) -> None:
    for sort in ("severity", "cvss", "epss", "package"):
        for direction in ("asc", "desc"):
            path = f"{varied}/vulnerabilities?sort={sort}:{direction}"
            rows = get(client, tenants.acme, path)["data"]
            pages = [get(client, tenants.acme, f"{path}&limit=3&page={n}") for n in (1, 2, 3)]
            assert [row for page in pages for row in page["data"]] == rows
            assert {page["meta"]["total"] for page in pages} == {4}


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("severity=awful", "severity"),
        ("fixable=1", "fixable"),
        ("fixable=", "fixable"),
        ("package=%00", "package"),
        ("search=" + "x" * 201, "search"),
        ("search=a&search=b", "search"),
        ("page=0", "page"),
    ],
)
def test_vulnerabilities_with_an_invalid_query_return_400(
    client: FlaskClient, tenants: Tenants, varied: str, query: str, path: str
) -> None:
    response = client.get(
        f"/api/images/{varied}/vulnerabilities?{query}", headers=tenants.acme.headers
    )
    assert response.status_code == 400
    assert [issue["path"] for issue in response.json["error"]["issues"]] == [path]


def test_second_search_of_a_credential_returns_429_until_the_first_ends(
    client: FlaskClient, tenants: Tenants, config: Config
) -> None:
    image_id = record(tenants.acme, envelope(counts=COUNTS))
    path = f"/api/images/{image_id}/vulnerabilities"
    other_key = {"X-API-Key": tenants.acme.add_key()}
    with connect(config) as other, other.transaction():
        parameters = {"caller": tenants.acme.key_id}
        assert other.execute(STATEMENTS["begin_text_search"], parameters).fetchall() == [(True,)]
        assert other.execute("SHOW statement_timeout").fetchone() == ("500ms",)
        response = client.get(f"{path}?s%65arch=open", headers=tenants.acme.headers)
        assert (response.status_code, response.headers["Retry-After"]) == (429, "1")
        message = "Another search with this credential is running; try again shortly."
        assert response.json == {"error": {"code": "RATE_LIMITED", "message": message}}
        assert client.get(path, headers=tenants.acme.headers).status_code == 200
        assert client.get(f"{path}?search=open", headers=other_key).status_code == 200
    for _ in range(3):
        response = client.get(f"{path}?search=open", headers=tenants.acme.headers)
        assert (response.status_code, response.json["meta"]["total"]) == (200, sum(COUNTS))


def test_search_takes_one_statement_more_and_leaves_the_timeout_unchanged(
    app: Flask, client: FlaskClient, tenants: Tenants, statements: list[str]
) -> None:
    image_id = record(tenants.acme, envelope(counts=COUNTS))
    with app.extensions["harborguard"].pool.connection() as conn:
        before = conn.execute("SHOW statement_timeout").fetchone()
    statements.clear()
    get(client, tenants.acme, f"{image_id}/vulnerabilities?search=open")
    assert len(statements) == 4
    assert "set_config" in statements[2]
    for _ in range(8):
        with app.extensions["harborguard"].pool.connection() as conn:
            assert conn.execute("SHOW statement_timeout").fetchone() == before
