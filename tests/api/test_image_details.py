"""GET /api/images/{id} and what hangs on it: tags, vulnerabilities."""

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from harborguard.ingest import ingest_report
from harborguard.model import Severity
from harborguard.store.connection import Connection
from tests.support.listing import ask
from tests.support.reports import RECEIVED_AT, SCANNED_AT, envelope, grype, manifest, trivy
from tests.support.tenants import Tenant, Tenants

ALL = (1, 4, 2, 3, 2, 1, 1)
PLACES = ("", "/tags", "/vulnerabilities")


def record(member: Tenant, body: bytes) -> str:
    """Records a report; answers with its image's id."""
    recorded = ingest_report(member.conn, member.organization_id, body, received_at=RECEIVED_AT)
    return recorded.image_id


def get(client: FlaskClient, member: Tenant, path: str) -> Any:
    """The body of an answer that must succeed."""
    response = client.get(f"/api/images/{path}", headers=member.headers)
    assert response.status_code == 200, response.data
    return response.json


def test_it_works(client: FlaskClient, tenants: Tenants, statements: list[str]) -> None:
    image_id = record(tenants.acme, envelope(counts=(0, 4, 1, 2)))
    [row] = ask(client, tenants.acme)["data"]
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
            },
        }
    }
    assert (row["id"], row["vulnerabilities"]["high"]) == (image_id, 4)


def test_never_scanned_has_no_last_scan(client: FlaskClient, tenants: Tenants) -> None:
    image_id = record(tenants.acme, envelope(status="FAILED"))
    body = get(client, tenants.acme, image_id)
    assert body["data"]["lastScan"] is None
    assert body["data"]["riskScore"] is None
    assert get(client, tenants.acme, f"{image_id}/vulnerabilities")["data"] == []
    [tag] = get(client, tenants.acme, f"{image_id}/tags")["data"]
    assert (tag["scanned"], tag["riskScore"], tag["lastScannedAt"]) == (False, None, None)


@pytest.mark.parametrize("place", PLACES)
def test_anothers_is_as_one_that_is_missing(
    client: FlaskClient, tenants: Tenants, place: str
) -> None:
    image_id = record(tenants.globex, envelope(counts=ALL))
    registry_id = tenants.acme.add_registry("quay.io")
    own = record(tenants.acme, envelope(counts=ALL))
    bound = tenants.acme.add_key(registry_id=registry_id)

    def refused(name: str, key: str) -> bytes:
        response = client.get(f"/api/images/{name}{place}", headers={"X-API-Key": key})
        assert response.status_code == 404, response.data
        return response.data

    missing = refused("img-0000000000000000", tenants.acme.key)
    assert refused(image_id, tenants.acme.key) == missing
    assert refused(own, bound) == missing
    for name in ("%00", f"{own}%00", "%FF", "é", "x" * 2000, own.upper()):
        assert refused(name, tenants.acme.key) == missing


def test_a_bound_key_sees_what_is_its_own(client: FlaskClient, tenants: Tenants) -> None:
    image_id = record(tenants.acme, envelope(counts=ALL))
    key = tenants.acme.add_key(registry_id=tenants.acme.add_registry("ghcr.io"))
    for place in PLACES:
        response = client.get(f"/api/images/{image_id}{place}", headers={"X-API-Key": key})
        assert response.status_code == 200


@pytest.mark.parametrize("place", [*PLACES, "/nothing"])
def test_without_a_credential(client: FlaskClient, tenants: Tenants, place: str) -> None:
    status = client.get(f"/api/images/img-1{place}").status_code
    assert status == (404 if place == "/nothing" else 401)


def test_tags(client: FlaskClient, tenants: Tenants, statements: list[str]) -> None:
    """A moved tag, one that only a failed scan saw, one without a digest."""
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
    refused = client.get(f"/api/images/{path}?limit=0", headers=tenants.acme.headers)
    assert refused.status_code == 400


def test_vulnerabilities(client: FlaskClient, tenants: Tenants, statements: list[str]) -> None:
    """Of the scan that the row shows, and no other; its totals are the row's counts."""
    record(
        tenants.acme,
        envelope(counts=(9, 9, 9), scan_id="old", finished_at=SCANNED_AT - timedelta(1)),
    )
    image_id = record(tenants.acme, envelope(counts=ALL))
    record(tenants.globex, envelope(counts=(5, 5, 5)))
    row = get(client, tenants.acme, image_id)["data"]
    statements.clear()

    body = get(client, tenants.acme, f"{image_id}/vulnerabilities")

    assert len(statements) == 3
    assert body["data"][0] == {
        "id": "CVE-2026-1000",
        "severity": "critical",
        "cvssScore": 7.5,
        "package": "openssl",
        "installedVersion": "3.0.1",
        "fixedVersion": "3.0.2",
        "title": "CVE-2026-1000 in openssl",
        "url": "https://example.org/CVE-2026-1000",
        "sources": ["trivy"],
    }
    severities = [found["severity"] for found in body["data"]]
    assert severities == [word for word, n in zip(Severity, ALL, strict=True) for _ in range(n)]
    assert body["meta"]["total"] == sum(ALL)
    assert row["vulnerabilities"] == {"critical": 1, "high": 4, "medium": 2, "low": 3}
    for severity, count in row["vulnerabilities"].items():
        listed = get(
            client, tenants.acme, f"{image_id}/vulnerabilities?severity={severity}&limit=1"
        )
        assert listed["meta"]["total"] == count


@pytest.fixture
def varied(conn: Connection, tenants: Tenants) -> str:
    """An image with findings that differ in everything that can be asked."""
    image_id = record(tenants.acme, envelope(counts=(1, 1, 1, 1)))
    changes = [
        ("CVE-2026-1000", "zlib", None, 5.0, "100% odd_title"),
        ("CVE-2026-1001", "OpenSSL", "3.1", None, None),
        ("CVE-2026-1002", "bash", "5.2", 9.9, "Überlauf"),
        ("CVE-2026-1003", "curl", None, 1.0, "nothing"),
    ]
    for identity, package, fixed, score, title in changes:
        conn.execute(
            "UPDATE findings SET package = %s, fixed_version = %s, cvss_score = %s, title = %s"
            " WHERE vulnerability_id = %s",
            (package, fixed, score, title, identity),
        )
    return image_id


@pytest.mark.parametrize(
    ("query", "found", "links"),
    [
        ("", "0123", ""),
        ("severity=LOW, critical,,", "03", "severity=critical%2Clow"),
        ("severity=,", "0123", ""),
        ("severity=unknown", "", "severity=unknown"),
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
        ("sort=package:asc", "1230", "sort=package%3Aasc"),
        ("sort=package:desc", "0321", "sort=package%3Adesc"),
        ("sort=position:desc", "0123", ""),
        ("fixable=true&severity=medium&search=A&sort=cvss:asc", "2", "severity=medium&fixable=true&search=A&sort=cvss%3Aasc"),
    ],
)  # fmt: skip
def test_filters_and_orders(
    client: FlaskClient, tenants: Tenants, varied: str, query: str, found: str, links: str
) -> None:
    body = get(client, tenants.acme, f"{varied}/vulnerabilities?{query}")
    assert "".join(row["id"][-1] for row in body["data"]) == found
    assert body["meta"]["total"] == len(found)
    path = f"/api/images/{varied}/vulnerabilities?page=1&limit=50"
    assert body["links"] == {"self": f"{path}&{links}" if links else path}


def test_vulnerabilities_are_paginated(client: FlaskClient, tenants: Tenants, varied: str) -> None:
    for sort in ("severity", "cvss", "package"):
        for direction in ("asc", "desc"):
            path = f"{varied}/vulnerabilities?sort={sort}:{direction}"
            whole = get(client, tenants.acme, path)["data"]
            pages = [get(client, tenants.acme, f"{path}&limit=3&page={n}") for n in (1, 2, 3)]
            assert [row for page in pages for row in page["data"]] == whole
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
def test_a_bad_question_is_named(
    client: FlaskClient, tenants: Tenants, varied: str, query: str, path: str
) -> None:
    response = client.get(
        f"/api/images/{varied}/vulnerabilities?{query}", headers=tenants.acme.headers
    )
    assert response.status_code == 400
    assert [issue["path"] for issue in response.json["error"]["issues"]] == [path]
