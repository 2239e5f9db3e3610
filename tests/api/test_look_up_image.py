"""GET /api/images/lookup: the verdict on a tag or a digest."""

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from harborguard.ingest import ingest_report
from harborguard.model import ObservedRepository, ObservedTag, RecordedScan, Role
from harborguard.store.repositories import record_repository
from tests.support.listing import list_images
from tests.support.reports import RECEIVED_AT, SCANNED_AT, envelope, grype, manifest, trivy
from tests.support.tenants import Tenant, Tenants

HOUR = timedelta(hours=1)
API = "ghcr.io/acme/api"
A, B, C = (manifest(letter) for letter in "abc")
NOT_FOUND = {"error": {"code": "NOT_FOUND", "message": "Image not found."}}


def record(tenant: Tenant, body: bytes) -> RecordedScan:
    """Record a report of a tenant."""
    return ingest_report(tenant.conn, tenant.organization_id, body, received_at=RECEIVED_AT)


def sync(tenant: Tenant, *tags: ObservedTag) -> None:
    """Record the tags of an image as a registry sync observed them a day after the scans."""
    repository = ObservedRepository(API, tags, SCANNED_AT + 24 * HOUR)
    registry_id = tenant.add_registry("ghcr.io")
    record_repository(tenant.conn, tenant.organization_id, registry_id, repository)


def look_up(client: FlaskClient, tenant: Tenant, ref: str) -> Any:
    """Return the data of a response, which must be 200."""
    path = "/api/images/lookup"
    response = client.get(path, query_string={"ref": ref}, headers=tenant.headers)
    assert response.status_code == 200, response.data
    return response.json["data"]


def test_lookup_of_a_tag_has_its_image_digest_and_scan(
    client: FlaskClient, tenants: Tenants, statements: list[str]
) -> None:
    scan = record(tenants.acme, trivy(f"{API}:1.4", (0, 4, 1, 2), digest=A))
    record(tenants.globex, trivy(f"{API}:1.4", (9,), digest=A))
    [row] = list_images(client, tenants.acme)["data"]
    statements.clear()

    data = look_up(client, tenants.acme, "https://GHCR.io/acme/api:1.4")

    assert len(statements) == 2
    assert data == {
        "ref": f"{API}:1.4",
        "image": row,
        "tag": "1.4",
        "digest": A,
        "isLatest": True,
        "scan": {
            "id": scan.scan_id,
            "status": "SUCCESS",
            "scanners": ["trivy"],
            "finishedAt": "2026-04-26T14:22:11.000Z",
            "riskScore": 25,
            "grade": "B",
            "vulnerabilities": {"critical": 0, "high": 4, "medium": 1, "low": 2},
        },
    }
    assert list(data) == ["ref", "image", "tag", "digest", "isLatest", "scan"]


@pytest.mark.parametrize(
    ("ref", "normalized"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("docker://index.docker.io/nginx", "docker.io/library/nginx:latest"),
        (f"nginx@{A}", f"docker.io/library/nginx@{A}"),
        (f"nginx:latest@{A}", f"docker.io/library/nginx:latest@{A}"),
    ],
)
def test_reference_is_normalized_as_on_ingest(
    client: FlaskClient, tenants: Tenants, ref: str, normalized: str
) -> None:
    record(tenants.acme, trivy("docker.io/library/nginx:latest", digest=A))
    data = look_up(client, tenants.acme, ref)
    assert data["ref"] == normalized
    assert data["digest"] == A
    assert data["tag"] == (None if ":latest" not in normalized else "latest")
    assert data["isLatest"] is True


def test_scan_of_a_former_digest_does_not_count_for_a_moved_tag(
    client: FlaskClient, tenants: Tenants
) -> None:
    clean = record(tenants.acme, trivy(f"{API}:1", digest=A))
    sync(tenants.acme, ObservedTag("1", B))
    assert look_up(client, tenants.acme, f"{API}:1")["digest"] == B
    assert look_up(client, tenants.acme, f"{API}:1")["scan"] is None
    old = look_up(client, tenants.acme, f"{API}:1@{A}")
    assert (old["digest"], old["isLatest"], old["scan"]["id"]) == (A, False, clean.scan_id)
    new = look_up(client, tenants.acme, f"{API}:1@{B}")
    assert (new["digest"], new["isLatest"], new["scan"]) == (B, True, None)


def test_scans_of_a_digest_count_for_each_of_its_tags(
    client: FlaskClient, tenants: Tenants
) -> None:
    """The highest score of a day counts, whatever the tag; a scan without the digest never does."""
    worst = record(tenants.acme, grype(f"{API}:1", (1,), digest=A, finished_at=SCANNED_AT - HOUR))
    record(tenants.acme, trivy(f"{API}@{A}", digest=A))
    record(tenants.acme, envelope(f"{API}:1", (9,), scan_id="b", digest=B, scanners=("b",)))
    record(tenants.acme, envelope(f"{API}:2", (9,), scan_id="none", scanners=("c",)))
    sync(tenants.acme, ObservedTag("1", A), ObservedTag("stable", A), ObservedTag("2", None))
    for ref in (":1", ":stable", f"@{A}", f":2@{A}"):
        scan = look_up(client, tenants.acme, API + ref)["scan"]
        assert (scan["id"], scan["grade"]) == (worst.scan_id, "D"), ref


def test_superseded_scans_of_a_digest_still_count_for_it(
    client: FlaskClient, tenants: Tenants
) -> None:
    """A tag that moves does not make the former digest look clean."""
    worst = record(tenants.acme, grype(f"{API}:1", (1,), digest=A, finished_at=SCANNED_AT - HOUR))
    record(tenants.acme, trivy(f"{API}:1", digest=A))
    later = SCANNED_AT + 30 * HOUR
    record(tenants.acme, envelope(f"{API}:1", scan_id="b", digest=B, finished_at=later))
    assert look_up(client, tenants.acme, f"{API}@{A}")["scan"]["id"] == worst.scan_id


def test_tag_of_unknown_digest_has_the_scan_that_counts_for_the_tag(
    client: FlaskClient, tenants: Tenants
) -> None:
    scan = record(tenants.acme, envelope(f"{API}:1", (0, 1)))
    record(tenants.acme, envelope(f"{API}:2", (1,), scan_id="2", finished_at=SCANNED_AT - HOUR))
    data = look_up(client, tenants.acme, f"{API}:1")
    assert (data["digest"], data["scan"]["id"], data["isLatest"]) == (None, scan.scan_id, True)
    assert look_up(client, tenants.acme, f"{API}:2")["isLatest"] is False


def test_failed_scan_is_not_a_verdict(client: FlaskClient, tenants: Tenants) -> None:
    record(tenants.acme, envelope(f"{API}:1", (1,), status="FAILED", digest=A))
    record(tenants.acme, envelope(f"{API}@{B}", (1,), scan_id="b", status="CANCELLED", digest=B))
    for ref in (":1", f"@{A}", f"@{B}", f":1@{A}"):
        assert look_up(client, tenants.acme, API + ref)["scan"] is None


@pytest.mark.parametrize(
    "ref",
    [
        "ghcr.io/acme/ap:1",
        "ghcr.io/acme/apis:1",
        "quay.io/acme/api:1",
        "ghcr.io/acme/api",  # the tag `latest`
        "ghcr.io/acme/api:2",
        f"ghcr.io/acme/api@{C}",
        f"ghcr.io/acme/api:1@{C}",
        f"ghcr.io/acme/api:2@{A}",
        f"ghcr.io/acme/api@{B}",  # of another image
        "ghcr.io/acme/web:1",  # of another organization
    ],
)
def test_reference_that_is_not_in_the_inventory_returns_404(
    client: FlaskClient, tenants: Tenants, ref: str
) -> None:
    record(tenants.acme, trivy(f"{API}:1", digest=A))
    record(tenants.acme, trivy("ghcr.io/acme/api-2:2", digest=B))
    record(tenants.globex, trivy("ghcr.io/acme/web:1", digest=A))
    record(tenants.globex, trivy(f"{API}:2", digest=C))
    path = "/api/images/lookup"
    response = client.get(path, query_string={"ref": ref}, headers=tenants.acme.headers)
    assert (response.status_code, response.json) == (404, NOT_FOUND)
    assert "ETag" not in response.headers


def test_key_limited_to_another_registry_gets_404(client: FlaskClient, tenants: Tenants) -> None:
    record(tenants.acme, trivy(f"{API}:1", digest=A))
    for host, status in (("quay.io", 404), ("ghcr.io", 200)):
        registry_id = tenants.acme.add_registry(host)
        headers = {"X-API-Key": tenants.acme.add_key(registry_id=registry_id)}
        for ref in (f"{API}:1", f"{API}@{A}"):
            response = client.get("/api/images/lookup", query_string={"ref": ref}, headers=headers)
            assert response.status_code == status
            assert status == 200 or response.json == NOT_FOUND


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "is required"),
        ("ref=", "must be a name in ASCII characters, such as ghcr.io/acme/api:1.4"),
        ("ref=%20", "has a malformed path"),
        ("ref=a%00b", "has a malformed path"),
        ("ref=%C3%A9", "must be a name in ASCII characters"),
        ("ref=ACME/api", "has a malformed path"),
        ("ref=api@sha256:1", "has a malformed digest"),
        ("ref=api:", "has a malformed tag"),
        (f"ref={A}", "is an image id"),
        ("ref=report.json", "is the name of a file"),
        ("ref=" + "x" * 1001, "must be at most 1000 characters"),
        ("ref=a&ref=b", "given more than once"),
        ("image=api:1", "is required"),
    ],
)
def test_malformed_or_missing_reference_returns_400(
    client: FlaskClient, tenants: Tenants, query: str, message: str
) -> None:
    response = client.get(f"/api/images/lookup?{query}", headers=tenants.acme.headers)
    assert response.status_code == 400
    error = response.json["error"]
    assert (error["code"], error["message"]) == ("BAD_REQUEST", "The query is not valid.")
    [issue] = error["issues"]
    assert issue["path"] == "ref"
    assert issue["message"].startswith(message)


@pytest.mark.parametrize("role", Role)
def test_every_role_may_look_up(client: FlaskClient, tenants: Tenants, role: Role) -> None:
    record(tenants.acme, trivy(f"{API}:1"))
    headers = {"X-API-Key": tenants.acme.add_key(role)}
    assert client.get(f"/api/images/lookup?ref={API}:1", headers=headers).status_code == 200


def test_lookup_without_a_credential_or_with_another_method_is_rejected(
    client: FlaskClient, tenants: Tenants
) -> None:
    assert client.get(f"/api/images/lookup?ref={API}:1").status_code == 401
    response = client.post("/api/images/lookup", headers=tenants.acme.headers)
    assert response.status_code == 405
    assert sorted(response.headers["Allow"].split(", ")) == ["GET", "HEAD", "OPTIONS"]


@pytest.mark.parametrize("name", ["changes", "lookup", "summary"])
def test_route_beside_an_image_does_not_allow_delete(
    client: FlaskClient, tenants: Tenants, name: str
) -> None:
    headers = {"X-API-Key": tenants.acme.add_key(Role.ADMIN)}
    response = client.delete(f"/api/images/{name}", headers=headers)
    assert response.status_code == 405
    assert sorted(response.headers["Allow"].split(", ")) == ["GET", "HEAD", "OPTIONS"]


def test_failed_scan_of_a_later_day_does_not_hide_the_verdict(
    client: FlaskClient, tenants: Tenants
) -> None:
    scan = record(tenants.acme, trivy(f"{API}:1", (1,), digest=A))
    later = SCANNED_AT + 30 * HOUR
    record(tenants.acme, envelope(f"{API}:1", status="FAILED", digest=A, finished_at=later))
    assert look_up(client, tenants.acme, f"{API}:1")["scan"]["id"] == scan.scan_id
