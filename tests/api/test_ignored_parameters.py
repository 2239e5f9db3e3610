"""The header X-Ignored-Parameters names the query parameters that were not understood."""

import pytest
from flask.testing import FlaskClient

from harborguard.model import Role
from tests.support.tenants import Tenants

HEADER = "X-Ignored-Parameters"
# Each route with a query, and a valid query.
ROUTES = [
    ("/api/images", ""),
    ("/api/images/summary", ""),
    ("/api/images/export", ""),
    ("/api/images/IMAGE/tags", ""),
    ("/api/images/IMAGE/vulnerabilities", ""),
    ("/api/vulnerabilities", "cveId=x"),
    ("/api/audit-log", ""),
]
each_route = pytest.mark.parametrize(("path", "query"), ROUTES, ids=[each[0] for each in ROUTES])


@pytest.fixture
def headers(tenants: Tenants) -> dict[str, str]:
    """Return the headers of an owner."""
    return {"X-API-Key": tenants.acme.add_key(Role.OWNER)}


def get_ignored(
    client: FlaskClient, headers: dict[str, str], url: str, status: int = 200
) -> str | None:
    """Return the header of a response with this status."""
    response = client.get(url, headers=headers)
    assert response.status_code == status, response.data
    return response.headers.get(HEADER)


@each_route
def test_unknown_names_are_named_and_known_ones_are_not(
    client: FlaskClient, tenants: Tenants, headers: dict[str, str], path: str, query: str
) -> None:
    path = path.replace("IMAGE", tenants.acme.add_image("ghcr.io/acme/api"))
    assert get_ignored(client, headers, f"{path}?{query}") is None
    url = f"{path}?{query}&Limit=1&grades=A&CVE=x&CVE=y"
    assert get_ignored(client, headers, url) == "CVE, Limit, grades"


@each_route
def test_header_is_sent_with_an_error(
    client: FlaskClient, headers: dict[str, str], path: str, query: str
) -> None:
    name = "riskScore" if path.endswith(("summary", "export")) else "page"
    assert get_ignored(client, headers, f"{path}?{query}&{name}=x&foo=1", 400) == "foo"


@pytest.mark.parametrize(
    ("query", "ignored"),
    [
        ("sort=name:asc", None),
        ("sort=lastScannedAt:desc&staleDays=7", None),
        ("sort=name", "sort"),
        ("sort=", "sort"),
        ("sort=id:asc&a=1&Z=1", "Z, a, sort"),
        ("=1", None),
        ("page[]=4", "page%5B%5D"),
        ("a%0d%0aSet-Cookie:x=1", "a%0D%0ASet-Cookie%3Ax"),
        ("%C3%A9,%00=1", "%C3%A9%2C%00"),
        ("~-._=1", "~-._"),
        ("x" * 200 + "=1", "x" * 200),
        ("x" * 201 + "=1", "..."),
        ("a=1&" + "x" * 200 + "=1", "a, ..."),
        ("&".join(f"p{n:02}=1" for n in range(90)), ", ".join(f"p{n:02}" for n in range(40)) + ", ..."),
    ],
)  # fmt: skip
def test_header_has_sorted_encoded_names_of_limited_length(
    client: FlaskClient, headers: dict[str, str], query: str, ignored: str | None
) -> None:
    assert get_ignored(client, headers, f"/api/images?{query}") == ignored


def test_header_is_sent_with_304_head_and_cached_queries(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    url = "/api/images?sort=unknown&colour=red"
    etag = client.get(url, headers=headers).headers["ETag"]
    for _ in range(2):
        response = client.get(url, headers={**headers, "If-None-Match": etag})
        assert (response.status_code, response.headers[HEADER]) == (304, "colour, sort")
    assert client.head(url, headers=headers).headers[HEADER] == "colour, sort"
    assert HEADER not in client.get("/api/images", headers=headers).headers


def test_header_is_sent_with_an_upload(client: FlaskClient, headers: dict[str, str]) -> None:
    response = client.post(
        "/api/scans/upload?img=x", data=b"{}", content_type="application/json", headers=headers
    )
    assert (response.status_code, response.headers[HEADER]) == (400, "img")


def test_image_without_a_query_has_no_header(
    client: FlaskClient, tenants: Tenants, headers: dict[str, str]
) -> None:
    image_id = tenants.acme.add_image("ghcr.io/acme/api")
    assert get_ignored(client, headers, f"/api/images/{image_id}?x=1") is None
