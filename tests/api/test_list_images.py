"""GET /api/images: the row, the envelope, and the statements of each request."""

import pytest
from flask.testing import FlaskClient

from tests.support.tenants import CREATED_AT, Tenants


def test_list_returns_the_rows_of_the_organization(client: FlaskClient, tenants: Tenants) -> None:
    registry_id = tenants.acme.add_registry("ghcr.io")
    image_id = tenants.acme.add_image(
        "ghcr.io/acme/api",
        31,
        tag_count=12,
        latest_tag="1.4.7",
        latest_digest="sha256:abcdef",
        high=4,
        medium=19,
        low=27,
    )
    tenants.globex.add_image("ghcr.io/globex/api", 31)

    response = client.get("/api/images", headers=tenants.acme.headers)

    assert response.status_code == 200
    assert response.json == {
        "data": [
            {
                "id": image_id,
                "name": "ghcr.io/acme/api",
                "registryId": registry_id,
                "tagCount": 12,
                "latestTag": "1.4.7",
                "latestDigest": "sha256:abcdef",
                "riskScore": 31,
                "grade": "B",
                "vulnerabilities": {"critical": 0, "high": 4, "medium": 19, "low": 27},
                "lastScannedAt": "2026-04-26T14:22:11.000Z",
                "createdAt": "2025-12-04T00:00:00.000Z",
            }
        ],
        "meta": {
            "page": 1,
            "pageSize": 50,
            "total": 1,
            "totalPages": 1,
            "hasNext": False,
            "hasPrev": False,
        },
        "links": {"self": "/api/images?page=1&limit=50"},
    }


def test_list_of_an_empty_inventory_is_empty(client: FlaskClient, tenants: Tenants) -> None:
    response = client.get("/api/images", headers=tenants.acme.headers)

    assert response.json == {
        "data": [],
        "meta": {
            "page": 1,
            "pageSize": 50,
            "total": 0,
            "totalPages": 0,
            "hasNext": False,
            "hasPrev": False,
        },
        "links": {"self": "/api/images?page=1&limit=50"},
    }


def test_never_scanned_image_has_no_score(client: FlaskClient, tenants: Tenants) -> None:
    tenants.acme.add_image("ghcr.io/acme/new")

    [row] = client.get("/api/images", headers=tenants.acme.headers).json["data"]

    assert row == {
        "id": row["id"],
        "name": "ghcr.io/acme/new",
        "registryId": row["registryId"],
        "tagCount": 0,
        "latestTag": None,
        "latestDigest": None,
        "riskScore": None,
        "grade": None,
        "vulnerabilities": {"critical": 0, "high": 0, "medium": 0, "low": 0},
        "lastScannedAt": None,
        "createdAt": "2025-12-04T00:00:00.000Z",
    }


def test_keys_are_in_the_order_of_the_contract(client: FlaskClient, tenants: Tenants) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 0)

    body = client.get("/api/images", headers=tenants.acme.headers).json

    assert body is not None
    assert list(body) == ["data", "meta", "links"]
    assert list(body["data"][0]) == [
        "id",
        "name",
        "registryId",
        "tagCount",
        "latestTag",
        "latestDigest",
        "riskScore",
        "grade",
        "vulnerabilities",
        "lastScannedAt",
        "createdAt",
    ]
    assert list(body["data"][0]["vulnerabilities"]) == ["critical", "high", "medium", "low"]


@pytest.mark.parametrize(
    ("microseconds", "expected"),
    [(0, "000"), (1, "000"), (999, "000"), (1000, "001"), (120_000, "120"), (999_999, "999")],
)
def test_times_have_three_decimals(
    client: FlaskClient, tenants: Tenants, microseconds: int, expected: str
) -> None:
    created_at = CREATED_AT.replace(microsecond=microseconds)
    tenants.acme.add_image("ghcr.io/acme/api", created_at=created_at)

    [row] = client.get("/api/images", headers=tenants.acme.headers).json["data"]

    assert row["createdAt"] == f"2025-12-04T00:00:00.{expected}Z"


@pytest.mark.parametrize(
    ("query", "tables"),
    [
        ("", ["inventories"]),
        ("?sort=name:asc&limit=200", ["inventories"]),
        ("?page=2", ["inventories"]),
        ("?page=99", ["inventories"]),
        ("?grade=A,C", ["image_counts", "images"]),
        ("?registry=ghcr.io&riskScore=1&sort=riskScore:desc", ["image_counts", "images"]),
        ("?grade=D", ["image_counts"]),
        ("?search=api", ["image_names"]),
        ("?search=api&page=2&sort=riskScore:asc", ["image_names"]),
        ("?search=api&registry=ghcr.io", ["image_names"]),
        ("?search=api&grade=B", ["image_names"]),
        ("?search=api&grade=B&page=2", ["image_names", "images"]),
    ],
)
def test_list_takes_one_statement_for_the_key_and_at_most_two_for_the_page(
    client: FlaskClient, tenants: Tenants, statements: list[str], query: str, tables: list[str]
) -> None:
    """Rows are counted only where the counters do not have the number."""
    for number in range(20):
        tenants.acme.add_image(f"ghcr.io/acme/api-{number}", 31 if number % 2 else 51)
    client.get("/api/images", headers=tenants.acme.headers)  # records the first use of the key
    statements.clear()

    response = client.get(f"/api/images{query}", headers=tenants.acme.headers)

    assert response.status_code == 200
    authentication, *listing = statements
    assert "FROM api_keys" in authentication
    assert len(listing) == len(tables) <= 2
    for statement, table in zip(listing, tables, strict=True):
        assert f"FROM {table}" in statement


def test_conditional_request_for_an_unchanged_list_takes_two_statements(
    client: FlaskClient, tenants: Tenants, statements: list[str]
) -> None:
    etag = client.get("/api/images", headers=tenants.acme.headers).headers["ETag"]
    statements.clear()

    response = client.get("/api/images", headers={**tenants.acme.headers, "If-None-Match": etag})

    assert (response.status_code, response.data) == (304, b"")
    assert len(statements) == 2
    assert "images" not in statements[1]


def test_head_returns_the_headers_of_get(client: FlaskClient, tenants: Tenants) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)

    headers = {**tenants.acme.headers, "X-Request-ID": "same-for-both"}
    get = client.get("/api/images", headers=headers)
    head = client.head("/api/images", headers=headers)

    assert (head.status_code, head.data) == (200, b"")
    assert dict(head.headers) == dict(get.headers)


def test_responses_have_private_cache_headers(client: FlaskClient, tenants: Tenants) -> None:
    for headers in (tenants.acme.headers, {}):
        response = client.get("/api/images", headers=headers)
        assert response.headers["Cache-Control"] == "private, no-cache"
        assert response.headers["Vary"] == "Authorization, Cookie, X-API-Key"
        assert response.headers["Content-Type"] == "application/json"


def test_example_request_of_the_contract_returns_its_response(
    client: FlaskClient, tenants: Tenants
) -> None:
    """The request is that of contract 7, on as many images as in its response."""
    for number in range(312):
        tenants.acme.add_image(f"ghcr.io/acme/api-{number}", 31, created_at=CREATED_AT)

    short = client.get(
        "/api/images?grade=A%2CB&sort=riskScore%3Adesc", headers=tenants.acme.headers
    )
    assert short.json["meta"]["total"] == 312
    plain = client.get("/api/images?page=1&limit=50", headers=tenants.acme.headers)
    assert plain.json["meta"] == {
        "page": 1,
        "pageSize": 50,
        "total": 312,
        "totalPages": 7,
        "hasNext": True,
        "hasPrev": False,
    }
    assert plain.json["links"] == {
        "self": "/api/images?page=1&limit=50",
        "next": "/api/images?page=2&limit=50",
    }
    query = "page=1&limit=50&registry=string&riskScore=0&grade=A%2CB&search=string&sort=riskScore%3Adesc"
    full = client.get(f"/api/images?{query}", headers=tenants.acme.headers)
    assert (full.status_code, full.json["data"]) == (200, [])
    assert full.json["links"] == {"self": f"/api/images?{query}"}
