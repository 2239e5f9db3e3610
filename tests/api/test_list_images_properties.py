"""GET /api/images compared with an oracle in Python, for any data, filter, order and limit."""

from datetime import UTC, datetime, timedelta
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

DAY = timedelta(days=1)
Drawn = tuple[str, str, int | None, int, dict[str, Any]]
HOSTS = {"ghcr.io": "GitHub", "quay.io": "Quay", "mirror.test:5000": "quay.io"}

NOW = datetime.now(UTC).replace(microsecond=0)
# Times of scans. Two are near the limits of `staleDays`, by more than a test takes.
SCANS = [NOW - age for age in (DAY / 24, 7 * DAY - DAY / 24, 31 * DAY, 400 * DAY)]
TIMES = [each.isoformat().replace("+00:00", "Z") for each in (*SCANS, CREATED_AT, CREATED_AT + DAY)]
CVE_IDS, PACKAGES, TAGS = ["CVE-1", "cve-1", "CVE-2"], ["zlib", "ZLIB", "bash"], ["1", "latest"]

details = st.fixed_dictionaries(
    {
        "last_scanned_at": st.sampled_from(SCANS),
        "tags": st.sets(st.sampled_from(TAGS)),
        "counts": st.tuples(*[st.integers(0, 1)] * 4),
        "findings": st.lists(
            st.tuples(
                st.sampled_from(CVE_IDS), st.sampled_from(PACKAGES), st.sampled_from([None, "2"])
            ),
            max_size=3,
        ),
    }
)
images = st.lists(
    st.tuples(
        st.sampled_from(sorted(HOSTS)),
        st.text("ab-_1/", min_size=1, max_size=5),
        st.none() | st.sampled_from([0, 24, 25, 49, 50, 74, 75, 100]) | st.integers(0, 100),
        st.integers(0, 5),
        details,
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
        "cveId": st.sampled_from([*CVE_IDS, "CVE"]),
        "package": st.sampled_from([*PACKAGES, "lib"]),
        "fixable": st.sampled_from(["true", "false"]),
        "severity": st.sampled_from(["CRITICAL", "HIGH,LOW", "MEDIUM", "CRITICAL,HIGH,MEDIUM,LOW"]),
        "tag": st.sampled_from([*TAGS, "Latest", "lat"]),
        "scanned": st.sampled_from(["never", "stale", "fresh"]),
        "staleDays": st.sampled_from([1, 7, 30, 399, 3650]),
        "createdAfter": st.sampled_from(TIMES),
        "scannedAfter": st.sampled_from(TIMES),
        "scannedBefore": st.sampled_from(TIMES),
        "sort": st.sampled_from(sorted(IMAGE_SORTS)),
    },
)


@pytest.fixture(autouse=True)
def small_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the thresholds, so that a few images take every plan that thousands take."""
    monkeypatch.setattr(image_query, "MAX_COUNTED_AFTER_PAGE", 2)
    monkeypatch.setattr(image_query, "MAX_EARLY_OFFSET", 3)


def add_images(tenant: Tenant, images: list[Drawn]) -> list[oracle.Row]:
    """Replace the tenant's images and return them as rows of the oracle."""
    key = (tenant.organization_id,)
    tenant.conn.execute("DELETE FROM findings WHERE organization_id = %s", key)
    tenant.conn.execute("DELETE FROM finding_sets WHERE organization_id = %s", key)
    tenant.conn.execute("DELETE FROM images WHERE organization_id = %s", key)
    repair_counters(tenant.conn, tenant.organization_id)
    rows = []
    for host, path, score, day, drawn in images:
        name = f"{host}/{path}"
        # Some times differ by a microsecond, which a response does not show, across midnight.
        created_at = CREATED_AT + timedelta(days=day // 3, microseconds=day % 3 - 1)
        registry_id = tenant.add_registry(host, HOSTS[host])
        scanned_at = None if score is None else drawn["last_scanned_at"]
        counts = (0, 0, 0, 0) if score is None else drawn["counts"]
        findings = () if score is None else tuple(drawn["findings"])
        image_id = tenant.add_image(
            name,
            score,
            created_at=created_at,
            last_scanned_at=scanned_at,
            tag_count=len(drawn["tags"]),
            **dict(zip(("critical", "high", "medium", "low"), counts, strict=True)),
        )
        for tag in drawn["tags"]:
            tenant.add_tag(image_id, tag)
        if findings:
            tenant.add_findings(image_id, findings)
        rows.append(
            oracle.Row(
                *(image_id, name, registry_id, host, HOSTS[host], score, created_at, scanned_at),
                frozenset(drawn["tags"]),
                counts,
                findings,
            )
        )
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
    images: list[Drawn],
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
                image_id = tenant.add_image(name, score, latest_digest="sha256:same")
                owners[image_id] = number
                tenant.add_tag(image_id, "1")
                if score is not None:
                    tenant.add_findings(image_id, [("CVE-1", "zlib", None)])
    queries = [
        {},
        {"registry": "ghcr.io"},
        {"registry": tenants[7].add_registry("ghcr.io")},
        {"riskScore": 0},
        {"grade": "A,D"},
        {"search": "api"},
        {"search": "acme", "grade": "A,B,C,D", "riskScore": 1, "registry": "GHCR.IO"},
        {"cveId": "CVE-1"},
        {"package": "zlib", "fixable": "false", "search": "api"},
        {"fixable": "false"},
        {"tag": "1"},
        {"scanned": "never"},
        {"scannedAfter": "2020-01-01", "createdAfter": "2020-01-01"},
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
