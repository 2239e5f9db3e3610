"""GET /api/images compared with an oracle in Python, for any data, filter, order and limit."""

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harborguard.api.queries import IMAGE_SORTS
from harborguard.store.connection import Connection
from harborguard.store.counters import repair_counters
from harborguard.store.images import query as image_query
from tests.support import oracle
from tests.support.listing import list_images
from tests.support.tenants import CREATED_AT, Tenant, Tenants, add_tenant

HOSTS = {"ghcr.io": "GitHub", "quay.io": "Quay", "mirror.test:5000": "quay.io"}

images = st.lists(
    st.tuples(
        st.sampled_from(sorted(HOSTS)),
        st.text("ab-_1/", min_size=1, max_size=5),
        st.none() | st.sampled_from([0, 24, 25, 49, 50, 74, 75, 100]) | st.integers(0, 100),
        st.integers(0, 5),
    ),
    max_size=25,
    unique_by=lambda image: image[:2],
)
queries = st.fixed_dictionaries(
    {},
    optional={
        "registry": st.sampled_from(["ghcr.io", "QUAY.IO", "quay", "github", "elsewhere"]),
        "riskScore": st.integers(0, 100),
        "grade": st.lists(st.sampled_from("ABCD"), min_size=1, unique=True).map(
            lambda letters: ",".join(sorted(letters))
        ),
        "search": st.text("abAB-_1/%\\", min_size=1, max_size=3),
        "sort": st.sampled_from(sorted(IMAGE_SORTS)),
    },
)


@pytest.fixture(autouse=True)
def small_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the thresholds, so that a few images take every plan that thousands take."""
    monkeypatch.setattr(image_query, "MAX_COUNTED_AFTER_PAGE", 2)
    monkeypatch.setattr(image_query, "MAX_EARLY_OFFSET", 3)


def add_images(tenant: Tenant, images: list[tuple[str, str, int | None, int]]) -> list[oracle.Row]:
    """Replace the tenant's images and return them as rows of the oracle."""
    key = (tenant.organization_id,)
    tenant.conn.execute("DELETE FROM images WHERE organization_id = %s", key)
    repair_counters(tenant.conn, tenant.organization_id)
    rows = []
    for host, path, score, day in images:
        name = f"{host}/{path}"
        # Some times differ by a microsecond, which a response does not show, across midnight.
        created_at = CREATED_AT + timedelta(days=day // 3, microseconds=day % 3 - 1)
        registry_id = tenant.add_registry(host, HOSTS[host])
        image_id = tenant.add_image(name, score, created_at=created_at)
        rows.append(oracle.Row(image_id, name, registry_id, host, HOSTS[host], score, created_at))
    return rows


def list_all_ids(client: FlaskClient, tenant: Tenant, query: dict[str, Any]) -> list[str]:
    """Return the ids of all pages, following `next`; check the links of each page."""
    body = list_images(client, tenant, **query)
    total, ids = body["meta"]["total"], []
    while True:
        assert body["meta"]["total"] == total
        check_links(body, query)
        ids += [row["id"] for row in body["data"]]
        if "next" not in body["links"]:
            break
        response = client.get(body["links"]["next"], headers=tenant.headers)
        assert response.json is not None
        body = response.json
    assert len(ids) == total
    return ids


def check_links(body: dict[str, Any], query: dict[str, Any]) -> None:
    """Check that the links differ from the query only in the page."""
    number, pages = body["meta"]["page"], body["meta"]["totalPages"]
    expected = {"self": number}
    if number < pages:
        expected["next"] = number + 1
    if number > 1 and pages:
        expected["prev"] = min(number - 1, pages)
    assert set(body["links"]) == set(expected)
    assert (body["meta"]["hasNext"], body["meta"]["hasPrev"]) == (
        "next" in expected,
        "prev" in expected,
    )
    filters = {name: [str(value)] for name, value in query.items() if name != "page"}
    for relation, page in expected.items():
        link = urlsplit(body["links"][relation])
        assert link.path == "/api/images"
        assert parse_qs(link.query) == {"limit": ["50"], **filters, "page": [str(page)]}


@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(images=images, query=queries, limit=st.integers(1, 9), extra=st.integers(1, 10**6))
def test_list_returns_what_the_oracle_returns(
    client: FlaskClient,
    tenants: Tenants,
    images: list[tuple[str, str, int | None, int]],
    query: dict[str, Any],
    limit: int,
    extra: int,
) -> None:
    rows = add_images(tenants.acme, images)
    expected = oracle.list_ids(rows, query)

    assert list_all_ids(client, tenants.acme, {**query, "limit": limit}) == expected

    past = list_images(client, tenants.acme, **query, limit=limit, page=len(expected) + extra)
    if len(expected) < (len(expected) + extra - 1) * limit:
        assert (past["data"], past["meta"]["total"]) == ([], len(expected))
    check_links(past, {**query, "limit": limit})


def test_list_never_contains_images_of_another_organization(
    client: FlaskClient, conn: Connection
) -> None:
    """Twenty organizations have the same names, digests and registries."""
    tenants = [add_tenant(conn, f"tenant-{number}") for number in range(20)]
    owners: dict[str, int] = {}
    for number, tenant in enumerate(tenants):
        for path, score in (("api", 10), ("web", 60), ("new", None), ("old", 90)):
            # Each tenant has more images than the one before, so that every total is different.
            for copy in range(number + 1):
                name = f"ghcr.io/acme/{path}-{copy}"
                owners[tenant.add_image(name, score, latest_digest="sha256:same")] = number
    queries = [
        {},
        {"registry": "ghcr.io"},
        {"registry": tenants[7].add_registry("ghcr.io")},
        {"riskScore": 0},
        {"grade": "A,D"},
        {"search": "api"},
        {"search": "acme", "grade": "A,B,C,D", "riskScore": 1, "registry": "GHCR.IO"},
    ]
    for number, tenant in enumerate(tenants):
        own_ids = [image_id for image_id, owner in owners.items() if owner == number]
        for query in queries:
            for sort in IMAGE_SORTS:
                body = list_images(client, tenant, **query, sort=sort, limit=200)
                ids = [row["id"] for row in body["data"]]
                assert {owners[image_id] for image_id in ids} <= {number}
                assert body["meta"]["total"] == len(ids) <= len(own_ids)
        assert list_images(client, tenant)["meta"]["total"] == len(own_ids)
        assert list_images(client, tenant, page=999)["meta"]["total"] == len(own_ids)
