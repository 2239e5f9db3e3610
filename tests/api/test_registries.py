"""GET /api/registries and /api/registries/{id}."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from harborguard.model import Role
from harborguard.store.registries import record_sync, upsert_registry
from tests.support.tenants import OPERATOR, SCANNED_AT, Tenants

NOT_FOUND = {"error": {"code": "NOT_FOUND", "message": "Registry not found."}}
SCORES = {"a": 0, "b": 24, "c": 25, "d": 49, "e": 50, "f": 75, "g": 100, "h": None}


@pytest.fixture
def registries(tenants: Tenants) -> dict[str, dict[str, Any]]:
    """Add three registries, one of them without images; return the expected rows by host."""
    acme = tenants.acme
    for name, score in SCORES.items():
        acme.add_image(f"ghcr.io/acme/{name}", score)
        tenants.globex.add_image(f"ghcr.io/acme/{name}", score)
    acme.add_image("quay.io/acme/a", 60)
    ids = {host: acme.add_registry(host) for host in ("docker.io", "ghcr.io", "quay.io")}
    upsert_registry(
        *(acme.conn, acme.organization_id, "ghcr.io"),
        actor=OPERATOR,
        default_provider="github",
        name="GitHub",
    )
    record_sync(acme.conn, acme.organization_id, ids["ghcr.io"], SCANNED_AT)
    none = {"A": 0, "B": 0, "C": 0, "D": 0}
    empty = {"provider": "generic", "neverScanned": 0, "lastSyncedAt": None}
    return {
        "docker.io": {
            **{"id": ids["docker.io"], "name": "docker.io", "host": "docker.io"},
            **{"images": 0, "grades": none, **empty},
        },
        "ghcr.io": {
            **{"id": ids["ghcr.io"], "name": "GitHub", "host": "ghcr.io", "provider": "github"},
            **{"images": 8, "grades": {"A": 2, "B": 2, "C": 1, "D": 2}, "neverScanned": 1},
            "lastSyncedAt": "2026-04-26T14:22:11.000Z",
        },
        "quay.io": {
            **{"id": ids["quay.io"], "name": "quay.io", "host": "quay.io"},
            **{"images": 1, "grades": {**none, "C": 1}, **empty},
        },
    }


def test_registries_have_the_numbers_of_their_images(
    client: FlaskClient,
    tenants: Tenants,
    registries: dict[str, dict[str, Any]],
    statements: list[str],
) -> None:
    statements.clear()
    response = client.get("/api/registries", headers=tenants.acme.headers)
    assert len(statements) == 2
    assert response.status_code == 200
    assert response.json == {
        "data": list(registries.values()),
        "meta": {
            **{"page": 1, "pageSize": 50, "total": 3, "totalPages": 1},
            **{"hasNext": False, "hasPrev": False},
        },
        "links": {"self": "/api/registries?page=1&limit=50"},
    }
    keys = ["id", "name", "host", "provider", "images", "grades", "neverScanned", "lastSyncedAt"]
    assert list(response.json["data"][0]) == keys


def test_registry_has_the_row_of_the_list(
    client: FlaskClient,
    tenants: Tenants,
    registries: dict[str, dict[str, Any]],
    statements: list[str],
) -> None:
    for row in registries.values():
        statements.clear()
        response = client.get(f"/api/registries/{row['id']}", headers=tenants.acme.headers)
        assert len(statements) == 2
        assert (response.status_code, response.json) == (200, {"data": row})


def test_registries_are_paginated(
    client: FlaskClient, tenants: Tenants, registries: dict[str, dict[str, Any]]
) -> None:
    path = "/api/registries?limit=2"
    body = client.get(f"{path}&page=2&x=1", headers=tenants.acme.headers).json
    assert [row["host"] for row in body["data"]] == ["quay.io"]
    assert body["links"] == {
        "self": "/api/registries?page=2&limit=2",
        "prev": "/api/registries?page=1&limit=2",
    }
    past = client.get(f"{path}&page=9", headers=tenants.acme.headers).json
    assert (past["data"], past["meta"]["total"]) == ([], 3)
    invalid = client.get("/api/registries?limit=0", headers=tenants.acme.headers)
    assert invalid.status_code == 400
    assert [issue["path"] for issue in invalid.json["error"]["issues"]] == ["limit"]


def test_organization_without_registries_has_an_empty_page(
    client: FlaskClient, tenants: Tenants
) -> None:
    body = client.get("/api/registries", headers=tenants.acme.headers).json
    assert (body["data"], body["meta"]["total"]) == ([], 0)


def test_key_limited_to_a_registry_sees_it_alone(
    client: FlaskClient, tenants: Tenants, registries: dict[str, dict[str, Any]]
) -> None:
    own, other = registries["quay.io"], registries["ghcr.io"]
    headers = {"X-API-Key": tenants.acme.add_key(registry_id=own["id"])}
    body = client.get("/api/registries", headers=headers).json
    assert (body["data"], body["meta"]["total"]) == ([own], 1)
    assert client.get(f"/api/registries/{own['id']}", headers=headers).json == {"data": own}
    response = client.get(f"/api/registries/{other['id']}", headers=headers)
    assert (response.status_code, response.json) == (404, NOT_FOUND)


def test_registry_of_another_organization_returns_the_same_404_as_a_missing_one(
    client: FlaskClient, tenants: Tenants, registries: dict[str, dict[str, Any]]
) -> None:
    own = registries["ghcr.io"]["id"]
    theirs = tenants.globex.add_registry("ghcr.io")
    for name in (theirs, "reg-0000000000000000", "%00", f"{own}%00", "%FF", "x" * 2000, "ghcr.io"):
        response = client.get(f"/api/registries/{name}", headers=tenants.acme.headers)
        assert (response.status_code, response.json) == (404, NOT_FOUND), name


@pytest.mark.parametrize("role", Role)
def test_every_role_may_read_registries(client: FlaskClient, tenants: Tenants, role: Role) -> None:
    headers = {"X-API-Key": tenants.acme.add_key(role)}
    assert client.get("/api/registries", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/api/registries", "/api/registries/reg-1"])
def test_request_without_a_credential_or_with_another_method_is_rejected(
    client: FlaskClient, tenants: Tenants, path: str
) -> None:
    assert client.get(path).status_code == 401
    response = client.post(path, headers=tenants.acme.headers)
    assert response.status_code == 405
    assert sorted(response.headers["Allow"].split(", ")) == ["GET", "HEAD", "OPTIONS"]
