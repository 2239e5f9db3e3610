"""GET /api/images/summary: the numbers of the images that match."""

import pytest
from flask.testing import FlaskClient

from tests.support.listing import list_images
from tests.support.tenants import Tenants

SCORES = {"a": 0, "b": 24, "c": 25, "d": 49, "e": 50, "f": 75, "g": 100, "h": None}


@pytest.fixture
def images(tenants: Tenants) -> dict[str, str]:
    """Add images and return the ids of their registries by host."""
    for name, score in SCORES.items():
        tenants.acme.add_image(f"ghcr.io/acme/{name}", score)
        tenants.globex.add_image(f"ghcr.io/acme/{name}", score)
    image_id = tenants.acme.add_image("quay.io/acme/a", 60, low=1)
    theirs = tenants.globex.add_image("quay.io/acme/a", 60, low=1)
    for tenant, each in ((tenants.acme, image_id), (tenants.globex, theirs)):
        tenant.add_tag(each, "1.0")
        tenant.add_findings(each, [("CVE-1", "zlib", None)])
    tenants.acme.add_registry("docker.io")
    hosts = ("ghcr.io", "quay.io")
    return {host: tenants.acme.add_registry(host, host.upper()) for host in hosts}


def test_summary_counts_by_grade_and_registry(
    client: FlaskClient, tenants: Tenants, images: dict[str, str], statements: list[str]
) -> None:
    statements.clear()
    response = client.get("/api/images/summary", headers=tenants.acme.headers)
    assert len(statements) == 2
    assert response.status_code == 200
    assert response.json == {
        "data": {
            "total": 9,
            "grades": {"A": 2, "B": 2, "C": 2, "D": 2},
            "neverScanned": 1,
            "registries": [
                {"id": images["ghcr.io"], "host": "ghcr.io", "name": "GHCR.IO", "images": 8},
                {"id": images["quay.io"], "host": "quay.io", "name": "QUAY.IO", "images": 1},
            ],
        }
    }


@pytest.mark.parametrize(
    "query",
    ["registry=QUAY.io", "riskScore=0", "riskScore=50&grade=C", "grade=A,D", "search=ghcr.io/acme/h",
     "search=nothing", "registry=unknown", "cveId=cve-1", "package=zlib&fixable=false", "cveId=x",
     "scanned=never", "scanned=stale", "fixable=false&grade=A", "severity=low", "tag=1.0",
     "createdAfter=2030-01-01", "scannedAfter=2020-01-01&search=a"],
)  # fmt: skip
def test_summary_counts_the_rows_of_the_list(
    client: FlaskClient, tenants: Tenants, images: dict[str, str], query: str
) -> None:
    parameters = dict(part.split("=") for part in query.split("&"))
    rows = list_images(client, tenants.acme, **parameters)["data"]
    data = client.get(f"/api/images/summary?{query}", headers=tenants.acme.headers).json["data"]
    assert data["total"] == len(rows)
    for grade, count in data["grades"].items():
        assert count == sum(row["grade"] == grade for row in rows)
    assert data["neverScanned"] == sum(row["grade"] is None for row in rows)
    assert {entry["id"]: entry["images"] for entry in data["registries"]} == {
        registry_id: count
        for registry_id in images.values()
        if (count := sum(row["registryId"] == registry_id for row in rows))
    }


def test_summary_for_a_key_limited_to_a_registry_counts_only_it(
    client: FlaskClient, tenants: Tenants, images: dict[str, str]
) -> None:
    key = tenants.acme.add_key(registry_id=images["quay.io"])
    data = client.get("/api/images/summary", headers={"X-API-Key": key}).json["data"]
    assert (data["total"], len(data["registries"])) == (1, 1)


def test_summary_with_an_invalid_query_returns_400(client: FlaskClient, tenants: Tenants) -> None:
    path = "/api/images/summary?riskScore=101&grade=E&page=x"
    response = client.get(path, headers=tenants.acme.headers)
    assert response.status_code == 400
    paths = {issue["path"] for issue in response.json["error"]["issues"]}
    assert paths == {"riskScore", "grade"}
    assert client.get("/api/images/summary").status_code == 401
