"""GET /api/vulnerabilities: findings by vulnerability, package and image."""

import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient

from harborguard.config import Config
from harborguard.ingest import ingest_report
from harborguard.model import RecordedScan, Role, Scope
from harborguard.store.connection import Connection, connect
from harborguard.store.deletion import delete_scan
from harborguard.store.statements import STATEMENTS
from tests.support.listing import list_images
from tests.support.reports import RECEIVED_AT, SCANNED_AT, envelope, grype, trivy
from tests.support.tenants import OPERATOR, Tenant, Tenants

DAY = timedelta(days=1)
SUBJECT_MISSING = "at least one of cveId, package and image is required"


def record(tenant: Tenant, body: bytes) -> RecordedScan:
    """Record a report."""
    return ingest_report(tenant.conn, tenant.organization_id, body, received_at=RECEIVED_AT)


def get(
    client: FlaskClient, tenant: Tenant, key: str | None = None, **parameters: object
) -> dict[str, Any]:
    """Return the body of a page; the response must be 200."""
    headers = {"X-API-Key": key} if key else tenant.headers
    response = client.get(f"/api/vulnerabilities?{urlencode(parameters)}", headers=headers)
    assert response.status_code == 200, response.data
    return response.json  # pyright: ignore[reportReturnType]


def names(client: FlaskClient, tenant: Tenant, key: str | None = None, **query: object) -> set[str]:
    """Return the names of the images of a page's rows."""
    return {row["image"]["name"] for row in get(client, tenant, key, **query)["data"]}


def test_row_has_the_finding_its_image_and_its_scan(
    client: FlaskClient, tenants: Tenants, statements: list[str]
) -> None:
    scan = record(tenants.acme, envelope(counts=(1, 1)))
    record(tenants.globex, envelope(counts=(1, 1)))
    statements.clear()

    body = get(client, tenants.acme, cveId="cve-2026-1001")

    assert len(statements) == 2
    [row] = body["data"]
    identity = row.pop("id")
    assert row == {
        "cveId": "CVE-2026-1001",
        "severity": "HIGH",
        "cvss": 7.5,
        "kev": None,
        "epss": None,
        "package": "openssl",
        "installedVersion": "3.0.1",
        "fixedVersion": "3.0.2",
        "title": "CVE-2026-1001 in openssl",
        "url": "https://example.org/CVE-2026-1001",
        "sources": ["trivy"],
        "image": {"id": scan.image_id, "name": "ghcr.io/acme/api"},
        "tag": "1.4.7",
        "scanId": scan.scan_id,
        "detectedAt": "2026-04-26T14:22:11.000Z",
    }
    assert body["meta"] == {
        "page": 1,
        "pageSize": 50,
        "total": 1,
        "totalPages": 1,
        "hasNext": False,
        "hasPrev": False,
    }
    assert body["links"] == {"self": "/api/vulnerabilities?page=1&limit=50&cveId=cve-2026-1001"}
    assert list(row) == [key for key in body["data"][0] if key != "id"]
    assert get(client, tenants.acme, cveId="CVE-2026-1001")["data"][0]["id"] == identity
    ids = [row["id"] for row in get(client, tenants.acme, image=scan.image_id)["data"]]
    assert identity in ids
    assert len(set(ids)) == 2


def test_findings_are_those_of_the_scans_that_count(client: FlaskClient, tenants: Tenants) -> None:
    """Neither other tags, nor superseded, failed or compared scans are included."""
    acme = tenants.acme
    record(
        acme, envelope("ghcr.io/acme/api:1", (3,), scan_id="1", finished_at=SCANNED_AT - 9 * DAY)
    )
    record(acme, envelope("ghcr.io/acme/api:2", (3,), scan_id="2", finished_at=SCANNED_AT - DAY))
    counted = record(acme, grype("ghcr.io/acme/api:2", (1, 2)))
    record(acme, envelope("ghcr.io/acme/api:2", (0, 1), scan_id="3", finished_at=SCANNED_AT))
    record(acme, envelope("ghcr.io/acme/api:2", (9,), scan_id="4", status="FAILED"))

    body = get(client, acme, package="OpenSSL")

    assert [row["severity"] for row in body["data"]] == ["CRITICAL", "HIGH", "HIGH"]
    assert {row["scanId"] for row in body["data"]} == {counted.scan_id}
    assert {row["tag"] for row in body["data"]} == {"2"}


@pytest.fixture
def varied(conn: Connection, tenants: Tenants) -> dict[str, str]:
    """Return the ids of two images, by name, with findings that differ in every filter and order.

    The digits of the vulnerabilities' ids are 0 to 3; image b has no finding 3.
    """
    acme = tenants.acme
    reports = {"a": (1, 1, 1, 1), "b": (1, 1, 1)}
    ids = {}
    for age, (name, counts) in enumerate(reports.items()):
        body = envelope(
            f"ghcr.io/acme/{name}:{name}",
            counts,
            scan_id=name,
            finished_at=SCANNED_AT - age * timedelta(hours=1),
        )
        ids[name] = record(acme, body).image_id
    changes = [
        ("CVE-2026-1000", "zlib", None, 5.0, True, "100% odd_title"),
        ("CVE-2026-1001", "OpenSSL", "3.1", None, False, None),
        ("CVE-2026-1002", "bash", "5.2", 9.9, None, "Überlauf"),
        ("CVE-2026-1003", "curl", None, 1.0, None, "nothing"),
    ]
    for identity, package, fixed, score, kev, title in changes:
        conn.execute(
            "UPDATE findings SET package = %s, fixed_version = %s, cvss_score = %s,"
            " epss = (11 - %s::float) / 100, kev = %s, title = %s WHERE vulnerability_id = %s",
            (package, fixed, score, score, kev, title, identity),
        )
    return ids


# The query, the images and last digits of the findings, and the filters in links.
A = "image=ghcr.io%2Facme%2Fa"
QUERIES = [
    ("cveId=CVE-2026-1000", "a0b0", "cveId=CVE-2026-1000"),
    ("cveId=cve-2026-1003", "a3", "cveId=cve-2026-1003"),
    ("cveId=CVE-2026-100", "", "cveId=CVE-2026-100"),
    ("package=openssl", "a1b1", "package=openssl"),
    ("package=open", "", "package=open"),
    ("package=bash&cveId=CVE-2026-1002", "a2b2", "package=bash&cveId=CVE-2026-1002"),
    ("package=bash&cveId=CVE-2026-1001", "", "package=bash&cveId=CVE-2026-1001"),
    (A, "a0a1a2a3", A),
    ("image=GHCR.io/acme/A", "a0a1a2a3", "image=GHCR.io%2Facme%2FA"),
    ("image=ghcr.io/acme", "", "image=ghcr.io%2Facme"),
    (f"{A}&cveId=CVE-2026-1001", "a1", f"{A}&cveId=CVE-2026-1001"),
    (f"{A}&severity=LOW, critical,,", "a0a3", f"severity=CRITICAL%2CLOW&{A}"),
    (f"{A}&severity=,", "a0a1a2a3", A),
    (f"{A}&fixable=true", "a1a2", f"{A}&fixable=true"),
    (f"{A}&fixable=false", "a0a3", f"{A}&fixable=false"),
    (f"{A}&kev=true", "a0", f"{A}&kev=true"),
    (f"{A}&kev=false", "a1", f"{A}&kev=false"),
    (f"{A}&search=SSL", "a1", f"{A}&search=SSL"),
    (f"{A}&search=%25", "a0", f"{A}&search=%25"),
    (f"{A}&search=erlauf", "a2", f"{A}&search=erlauf"),
    ("cveId=CVE-2026-1002&search=-1002", "a2b2", "cveId=CVE-2026-1002&search=-1002"),
    ("cveId=CVE-2026-1002&search=-1001", "", "cveId=CVE-2026-1002&search=-1001"),
    (f"{A}&sort=severity:asc", "a3a2a1a0", f"{A}&sort=severity%3Aasc"),
    (f"{A}&sort=cvss:desc", "a2a0a3a1", f"{A}&sort=cvss%3Adesc"),
    (f"{A}&sort=cvss:asc", "a3a0a2a1", f"{A}&sort=cvss%3Aasc"),
    (f"{A}&sort=epss:desc", "a3a0a2a1", f"{A}&sort=epss%3Adesc"),
    (f"{A}&sort=epss:asc", "a2a0a3a1", f"{A}&sort=epss%3Aasc"),
    (f"{A}&sort=cveId:desc", "a3a2a1a0", f"{A}&sort=cveId%3Adesc"),
    (f"{A}&sort=cveId:asc", "a0a1a2a3", f"{A}&sort=cveId%3Aasc"),
    ("package=zlib&sort=detectedAt:asc", "b0a0", "package=zlib&sort=detectedAt%3Aasc"),
    ("package=zlib&sort=detectedAt:desc", "a0b0", "package=zlib&sort=detectedAt%3Adesc"),
    ("package=zlib&sort=package:asc", "a0b0", "package=zlib"),
]


@pytest.mark.parametrize(("query", "expected", "links"), QUERIES, ids=[each[0] for each in QUERIES])
def test_query_selects_and_orders_findings(
    client: FlaskClient,
    tenants: Tenants,
    varied: dict[str, str],
    query: str,
    expected: str,
    links: str,
) -> None:
    response = client.get(f"/api/vulnerabilities?{query}", headers=tenants.acme.headers)
    body = response.json
    assert body is not None
    found = "".join(row["image"]["name"][-1] + row["cveId"][-1] for row in body["data"])
    assert found == expected
    assert body["meta"]["total"] == len(expected) // 2
    assert body["links"] == {"self": f"/api/vulnerabilities?page=1&limit=50&{links}"}


def test_image_can_be_named_by_its_id(
    client: FlaskClient, tenants: Tenants, varied: dict[str, str]
) -> None:
    assert names(client, tenants.acme, image=varied["b"]) == {"ghcr.io/acme/b"}
    assert names(client, tenants.acme, image=varied["b"].upper()) == set()


def test_pages_contain_each_finding_once_in_every_order(
    client: FlaskClient, tenants: Tenants, varied: dict[str, str]
) -> None:
    tenants.acme.conn.execute("UPDATE findings SET package = 'same'")
    for sort in ("severity", "cvss", "epss", "cveId", "detectedAt"):
        for direction in ("asc", "desc"):
            query = {"package": "same", "sort": f"{sort}:{direction}"}
            rows = get(client, tenants.acme, **query)["data"]
            pages = [get(client, tenants.acme, **query, limit=3, page=n) for n in (1, 2, 3, 4)]
            assert [row for page in pages for row in page["data"]] == rows
            assert len({row["id"] for row in rows}) == 7
            assert {page["meta"]["total"] for page in pages} == {7}


@pytest.mark.parametrize(
    ("query", "issues"),
    [
        ("", {"cveId": SUBJECT_MISSING, "package": SUBJECT_MISSING, "image": SUBJECT_MISSING}),
        (
            "search=x&image=%20&kev=true",
            {"cveId": SUBJECT_MISSING, "package": SUBJECT_MISSING, "image": SUBJECT_MISSING},
        ),
        ("cveId=a&kev=1", {"kev": "must be true or false"}),
        ("cveId=a&fixable=", {"fixable": "must be true or false"}),
        ("cveId=%00", {"cveId": "must not contain control characters"}),
        ("image=" + "x" * 1001, {"image": "must be at most 1000 characters"}),
        ("package=a&limit=201", {"limit": "must be an integer from 1 to 200"}),
    ],
)
def test_invalid_query_returns_400(
    client: FlaskClient, tenants: Tenants, query: str, issues: dict[str, str]
) -> None:
    response = client.get(f"/api/vulnerabilities?{query}", headers=tenants.acme.headers)
    assert response.status_code == 400
    error = response.json["error"]
    assert (error["code"], error["message"]) == ("BAD_REQUEST", "The query is not valid.")
    assert {issue["path"]: issue["message"] for issue in error["issues"]} == issues


@pytest.mark.parametrize("query", ["cveId=CVE-2026-1000", "package=openssl", "image=IMAGE"])
def test_findings_of_another_organization_or_registry_are_not_listed(
    client: FlaskClient, tenants: Tenants, query: str
) -> None:
    acme = tenants.acme
    ghcr = record(acme, envelope("ghcr.io/acme/api:1", (1,), scan_id="1"))
    record(acme, envelope("quay.io/acme/api:1", (1,), scan_id="2"))
    name, value = query.split("=")
    value = value.replace("IMAGE", ghcr.image_id)
    limited = {
        host: acme.add_key(registry_id=acme.add_registry(host)) for host in ("ghcr.io", "quay.io")
    }

    def found(tenant: Tenant, key: str | None = None) -> set[str]:
        return names(client, tenant, key, **{name: value})

    assert found(tenants.globex) == set()
    assert found(acme, limited["ghcr.io"]) == {"ghcr.io/acme/api"}
    own = set() if name == "image" else {"quay.io/acme/api"}
    assert found(acme, limited["quay.io"]) == own
    assert found(acme) == {"ghcr.io/acme/api", *own}


def test_every_role_may_read_and_none_may_not(client: FlaskClient, tenants: Tenants) -> None:
    for role in Role:
        assert get(client, tenants.acme, tenants.acme.add_key(role), cveId="x")["data"] == []
    assert client.get("/api/vulnerabilities?cveId=x").status_code == 401


def test_findings_of_a_scan_that_counts_again_are_missing_until_its_replay(
    client: FlaskClient, tenants: Tenants
) -> None:
    """The filters of the list agree, and the version moves."""
    acme = tenants.acme
    old = envelope(counts=(2,), scan_id="old", finished_at=SCANNED_AT - DAY)
    record(acme, old)
    newer = record(acme, envelope(counts=(0, 1), scan_id="new"))
    delete_scan(acme.conn, Scope(acme.organization_id), newer.scan_id, actor=OPERATOR)
    query = "/api/images?cveId=CVE-2026-1000"
    before = client.get(query, headers=acme.headers)

    assert get(client, acme, image=newer.image_id)["data"] == []
    assert before.json["data"] == []
    [row] = list_images(client, acme)["data"]
    assert row["vulnerabilities"]["critical"] == 2
    record(acme, old)
    assert get(client, acme, image=newer.image_id)["meta"]["total"] == 2
    after = client.get(query, headers={**acme.headers, "If-None-Match": before.headers["ETag"]})
    assert (after.status_code, len(after.json["data"])) == (200, 1)


def test_second_search_of_a_credential_returns_429_until_the_first_ends(
    client: FlaskClient, tenants: Tenants, config: Config
) -> None:
    record(tenants.acme, envelope(counts=(1,)))
    path = "/api/vulnerabilities?package=openssl"
    with connect(config) as other, other.transaction():
        other.execute(STATEMENTS["begin_text_search"], {"caller": tenants.acme.key_id})
        response = client.get(f"{path}&search=open", headers=tenants.acme.headers)
        assert (response.status_code, response.headers["Retry-After"]) == (429, "1")
        assert client.get(path, headers=tenants.acme.headers).status_code == 200
    assert get(client, tenants.acme, package="openssl", search="open")["meta"]["total"] == 1


def test_texts_of_reports_cannot_break_the_query(client: FlaskClient, tenants: Tenants) -> None:
    document = json.loads(trivy(counts=(1,)))
    [result] = document["Results"]
    strange = "GHSA-'; DROP TABLE findings; -- %s ßſ"
    result["Vulnerabilities"][0] |= {"VulnerabilityID": strange, "PkgName": strange}
    record(tenants.acme, json.dumps(document).encode())
    for query in ({"cveId": strange}, {"package": strange}, {"cveId": strange, "search": "%s"}):
        assert [row["cveId"] for row in get(client, tenants.acme, **query)["data"]] == [strange]
