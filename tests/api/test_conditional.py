"""Conditional requests: 304 for an unchanged list, and only within the caller's scope."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from flask.testing import FlaskClient

from harborguard.api import conditional
from harborguard.ingest import ingest_report
from harborguard.model import ObservedRepository, ObservedTag, Role
from harborguard.store import principals
from harborguard.store.connection import Connection
from harborguard.store.counters import change_counters
from harborguard.store.images import list as image_list
from harborguard.store.registries import record_sync, upsert_registry
from harborguard.store.repositories import record_repository
from tests.support.reports import RECEIVED_AT, SCANNED_AT, envelope, manifest
from tests.support.tenants import OPERATOR, Tenant, Tenants


def get_status(
    client: FlaskClient, headers: dict[str, str], query: str = "", etag: str = ""
) -> int:
    """Return the status of a request, conditional if `etag` is given."""
    condition = {"If-None-Match": etag} if etag else {}
    return client.get(f"/api/images{query}", headers={**headers, **condition}).status_code


def etag_of(client: FlaskClient, headers: dict[str, str], query: str = "") -> str:
    """Return the ETag of a response."""
    return client.get(f"/api/images{query}", headers=headers).headers["ETag"]


def test_conditional_request_returns_304_until_the_inventory_changes(
    client: FlaskClient, tenants: Tenants
) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    etag = etag_of(client, tenants.acme.headers)

    unchanged = client.get("/api/images", headers={**tenants.acme.headers, "If-None-Match": etag})

    assert (unchanged.status_code, unchanged.data) == (304, b"")
    assert unchanged.headers["ETag"] == etag
    assert unchanged.headers["Cache-Control"] == "private, no-cache"
    assert unchanged.headers["Vary"] == "Authorization, Cookie, X-API-Key"
    tenants.acme.add_image("ghcr.io/acme/web", 31)
    changed = client.get("/api/images", headers={**tenants.acme.headers, "If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != etag
    assert changed.json["meta"]["total"] == 2


@pytest.mark.parametrize(
    "form", ["{}", "W/{}", '"x", {}', '"x" , W/{},"y"', "*", '{}, "z"'], ids=str
)
def test_if_none_match_with_the_etag_in_any_form_returns_304(
    client: FlaskClient, tenants: Tenants, form: str
) -> None:
    etag = etag_of(client, tenants.acme.headers)
    assert get_status(client, tenants.acme.headers, etag=form.format(etag)) == 304


@pytest.mark.parametrize("form", ['"x"', "x", '"', "W/", ",", "{}x", '"{}"', " "])
def test_if_none_match_with_another_etag_returns_200(
    client: FlaskClient, tenants: Tenants, form: str
) -> None:
    etag = etag_of(client, tenants.acme.headers).strip('"')
    assert get_status(client, tenants.acme.headers, etag=form.format(etag + "0")) == 200


def test_conditional_head_returns_304(client: FlaskClient, tenants: Tenants) -> None:
    etag = etag_of(client, tenants.acme.headers)
    headers = {**tenants.acme.headers, "If-None-Match": etag}
    assert client.head("/api/images", headers=headers).status_code == 304


@pytest.mark.parametrize(
    "query", ["", "?page=2", "?limit=7", "?grade=A", "?grade=A,B", "?search=a", "?riskScore=0", "?registry=x", "?sort=name:asc"]
)  # fmt: skip
def test_etag_of_another_query_returns_200(
    client: FlaskClient, tenants: Tenants, query: str
) -> None:
    other = etag_of(client, tenants.acme.headers, "?limit=3")
    assert get_status(client, tenants.acme.headers, query, etag=other) == 200
    assert (
        get_status(
            client, tenants.acme.headers, query, etag=etag_of(client, tenants.acme.headers, query)
        )
        == 304
    )


@pytest.mark.parametrize(
    "query",
    ["?cveId=x", "?package=x&fixable=true", "?severity=high", "?tag=x", "?scanned=never",
     "?staleDays=7", "?createdAfter=2026-01-01", "?scannedBefore=2026-01-01", "?sort=tagCount:asc"],
)  # fmt: skip
def test_etag_of_a_filter_returns_304_until_the_inventory_changes(
    client: FlaskClient, tenants: Tenants, query: str
) -> None:
    acme = tenants.acme
    etag = etag_of(client, acme.headers, query)
    assert get_status(client, acme.headers, query, etag=etag) == 304
    acme.add_image("ghcr.io/acme/web", 31)
    assert get_status(client, acme.headers, query, etag=etag) == 200


@pytest.mark.parametrize("query", ["?scanned=stale", "?scanned=fresh&staleDays=1"])
def test_query_that_depends_on_the_time_has_no_etag(
    client: FlaskClient, tenants: Tenants, query: str
) -> None:
    """An image becomes stale without a change of the inventory."""
    image_id = tenants.acme.add_image(
        "ghcr.io/acme/api", 31, last_scanned_at=datetime.now(UTC) - timedelta(hours=23)
    )
    url = f"/api/images{query}"
    before = client.get(url, headers=tenants.acme.headers)
    assert "ETag" not in before.headers
    # As if two months had passed.
    tenants.acme.conn.execute(
        "UPDATE images SET last_scanned_at = last_scanned_at - interval '60 days' WHERE id = %s",
        [image_id],
    )
    after = client.get(url, headers={**tenants.acme.headers, "If-None-Match": "*"})
    assert after.status_code == 200
    assert after.json["meta"]["total"] == 1 - before.json["meta"]["total"]


def test_etag_of_an_equivalent_query_returns_304(client: FlaskClient, tenants: Tenants) -> None:
    etag = etag_of(client, tenants.acme.headers, "?grade=A,B&limit=50")
    assert get_status(client, tenants.acme.headers, "?foo=1&grade=%20b,a&page=01", etag=etag) == 304


def test_etag_of_a_registry_filter_returns_200_after_a_rename(
    client: FlaskClient, tenants: Tenants
) -> None:
    """The list by the former name is empty, and that by the new name is not."""
    acme = tenants.acme
    acme.add_image("ghcr.io/acme/api", 31)

    def rename(name: str | None) -> None:
        upsert_registry(
            acme.conn,
            acme.organization_id,
            "ghcr.io",
            actor=OPERATOR,
            default_provider="github",
            name=name,
        )

    rename("Mirror")
    queries = ("?registry=Mirror", "?registry=Cache")
    etags = [etag_of(client, acme.headers, query) for query in queries]
    for same in ("Mirror", None):
        rename(same)
        for query, etag in zip(queries, etags, strict=True):
            assert get_status(client, acme.headers, query, etag=etag) == 304

    rename("Cache")

    for query, etag, total in zip(queries, etags, (0, 1), strict=True):
        condition = {**acme.headers, "If-None-Match": etag}
        response = client.get(f"/api/images{query}", headers=condition)
        assert (response.status_code, response.json["meta"]["total"]) == (200, total)


def test_etag_of_another_release_returns_200(
    client: FlaskClient, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another release may return another body."""
    etag = etag_of(client, tenants.acme.headers)
    monkeypatch.setattr(conditional, "__version__", "99.0.0")
    assert get_status(client, tenants.acme.headers, etag=etag) == 200


def test_etag_of_another_organization_returns_200(
    client: FlaskClient, tenants: Tenants, conn: Connection
) -> None:
    conn.execute("UPDATE inventories SET version = 1")
    acme, globex = (etag_of(client, tenant.headers) for tenant in (tenants.acme, tenants.globex))
    assert acme != globex
    assert get_status(client, tenants.globex.headers, etag=acme) == 200
    assert get_status(client, tenants.globex.headers, etag=globex) == 304


def test_etag_of_a_key_limited_to_a_registry_depends_on_it(
    client: FlaskClient, tenants: Tenants
) -> None:
    registry_id = tenants.acme.add_registry("ghcr.io")
    limited = {"X-API-Key": tenants.acme.add_key(registry_id=registry_id)}
    assert get_status(client, limited, etag=etag_of(client, tenants.acme.headers)) == 200
    assert get_status(client, limited, etag=etag_of(client, limited)) == 304
    another = {"X-API-Key": tenants.acme.add_key(Role.OWNER)}
    assert get_status(client, another, etag=etag_of(client, tenants.acme.headers)) == 304


def test_etag_of_a_limited_key_changes_with_its_registry_alone(
    client: FlaskClient, tenants: Tenants
) -> None:
    acme = tenants.acme
    registry_ids = [acme.add_registry(host) for host in ("ghcr.io", "quay.io")]
    acme.add_image("ghcr.io/acme/api", 31)
    ghcr, quay = ({"X-API-Key": acme.add_key(registry_id=each)} for each in registry_ids)
    etags = [etag_of(client, headers) for headers in (acme.headers, ghcr, quay)]

    acme.add_image("ghcr.io/acme/web", 31)

    statuses = [
        get_status(client, headers, etag=etag)
        for headers, etag in zip((acme.headers, ghcr, quay), etags, strict=True)
    ]
    assert statuses == [200, 200, 304]
    assert etag_of(client, quay) == etags[2]


def test_conditional_request_with_a_revoked_key_returns_401(
    client: FlaskClient, tenants: Tenants, conn: Connection
) -> None:
    etag = etag_of(client, tenants.acme.headers)
    principals.revoke_api_key(conn, tenants.acme.key_id, actor=OPERATOR)
    assert get_status(client, tenants.acme.headers, etag=etag) == 401
    assert get_status(client, {}, etag="*") == 401


def test_conditional_request_with_an_invalid_query_returns_400(
    client: FlaskClient, tenants: Tenants
) -> None:
    assert get_status(client, tenants.acme.headers, "?page=x", etag="*") == 400


def test_inventory_version_restored_from_a_backup_increases_past_older_ones(
    conn: Connection, tenants: Tenants
) -> None:
    """The next version is taken from the clock, so that an old ETag never matches again."""

    def version() -> int:
        query = "SELECT version FROM inventories WHERE organization_id = %s"
        [found] = conn.execute(query, (tenants.acme.organization_id,)).fetchone() or [0]
        return found

    before = version()
    conn.execute("UPDATE inventories SET version = version - 1000")
    change_counters(conn, tenants.acme.organization_id, {}, images=0)
    assert version() > before


def test_list_is_identical_with_and_without_counters(
    client: FlaskClient, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bodies have the same bytes, and the ETags are equal."""
    for number in range(60):
        score = None if number % 7 == 0 else number * 13 % 101
        tenants.acme.add_image(f"{('ghcr.io', 'quay.io')[number % 2]}/acme/i{number}", score)
    queries = [
        f"?{query}&limit={limit}&page={page}"
        for query in ("", "sort=name:asc", "sort=riskScore:desc", "sort=riskScore:asc", "grade=A,C", "registry=quay.io&sort=riskScore:desc", "riskScore=90", "search=i1", "search=none", "grade=D&search=i")
        for limit, page in ((7, 1), (7, 5), (7, 9), (50, 2), (200, 1), (9, 99))
    ]  # fmt: skip
    expected = [client.get(f"/api/images{q}", headers=tenants.acme.headers) for q in queries]
    list_without_counters = partial(image_list.list_images, use_counters=False)
    monkeypatch.setattr(image_list, "list_images", list_without_counters)
    for query, counted in zip(queries, expected, strict=True):
        response = client.get(f"/api/images{query}", headers=tenants.acme.headers)
        assert (counted.status_code, counted.data, counted.headers["ETag"]) == (
            200,
            response.data,
            response.headers["ETag"],
        ), query


# -- ETags of bodies ------------------------------------------------------------------------------

API = "ghcr.io/acme/api"
LATER = SCANNED_AT + timedelta(hours=1)
IMAGE, REGISTRY, PAGE = "/api/images/{image}", "/api/registries/{registry}", "/api/registries"
OLD_TAG, LATEST = f"/api/images/lookup?ref={API}:1", f"/api/images/lookup?ref={API}:2"
SUMMARY, FINDINGS, TAGS = "/api/images/summary", f"{IMAGE}/vulnerabilities", f"{IMAGE}/tags"
VULNERABILITIES = "/api/vulnerabilities?image={image}"
BODY_ETAG_PATHS = [IMAGE, TAGS, FINDINGS, VULNERABILITIES, SUMMARY, PAGE, REGISTRY, OLD_TAG, LATEST]


def upload(tenant: Tenant, tag: str, counts: tuple[int, ...], **fields: object) -> str:
    """Record a report of a tag with a digest for the tag; return the image's id."""
    digest = manifest(tag)
    body = envelope(f"{API}:{tag}", counts, digest=digest, **fields)  # pyright: ignore
    recorded = ingest_report(tenant.conn, tenant.organization_id, body, received_at=RECEIVED_AT)
    return recorded.image_id


def sync(tenant: Tenant, *tags: ObservedTag) -> None:
    repository = ObservedRepository(API, tags, LATER)
    registry_id = tenant.add_registry("ghcr.io")
    record_repository(tenant.conn, tenant.organization_id, registry_id, repository)


def change_registry(tenant: Tenant, **changes: str) -> None:
    upsert_registry(
        *(tenant.conn, tenant.organization_id, "ghcr.io"),
        actor=OPERATOR,
        default_provider="generic",
        **changes,
    )


# Changes, and the resources that show them. The inventory version does not increase with some.
CHANGES: dict[str, tuple[Callable[[Tenant], object], list[str]]] = {
    "nothing": (lambda t: upload(t, "2", (0, 1), scan_id="2", finished_at=LATER), []),
    "scan of the latest tag": (
        lambda t: upload(t, "2", (1,), scan_id="new", finished_at=LATER + timedelta(minutes=1)),
        BODY_ETAG_PATHS,
    ),
    "scan of another tag": (
        lambda t: upload(t, "1", (1,), scan_id="new", finished_at=LATER - timedelta(minutes=1)),
        [TAGS, OLD_TAG],
    ),
    "moved tag": (
        lambda t: sync(t, ObservedTag("1", manifest("f"), SCANNED_AT)),
        [TAGS, OLD_TAG],
    ),
    "observed tag": (lambda t: sync(t, ObservedTag("1", manifest("1"))), [TAGS]),
    "compared scan": (
        lambda t: upload(t, "2", (), scan_id="new", scanners=("osv",), finished_at=LATER),
        [IMAGE],
    ),
    "provider": (lambda t: change_registry(t, provider="harbor"), [IMAGE, PAGE, REGISTRY]),
    "name": (lambda t: change_registry(t, name="Mirror"), [IMAGE, SUMMARY, PAGE, REGISTRY]),
    "sync": (
        lambda t: record_sync(t.conn, t.organization_id, t.add_registry("ghcr.io"), LATER),
        [PAGE, REGISTRY],
    ),
    "registry": (lambda t: t.add_registry("quay.io"), [PAGE]),
    "image of another name": (
        lambda t: t.add_image("ghcr.io/acme/web", 31),
        [SUMMARY, PAGE, REGISTRY],
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_resource_returns_304_until_its_own_body_changes(
    client: FlaskClient, tenants: Tenants, name: str
) -> None:
    acme = tenants.acme
    upload(acme, "1", (0, 0, 1), scan_id="1")
    image_id = upload(acme, "2", (0, 1), scan_id="2", finished_at=LATER)
    ids = {"image": image_id, "registry": acme.add_registry("ghcr.io")}
    paths = {path: path.format(**ids) for path in BODY_ETAG_PATHS}
    etags = {
        path: client.get(url, headers=acme.headers).headers["ETag"] for path, url in paths.items()
    }
    for path, url in paths.items():
        condition = {**acme.headers, "If-None-Match": f"W/{etags[path]}"}
        for method in ("GET", "HEAD"):
            response = client.open(url, method=method, headers=condition)
            assert (response.status_code, response.data) == (304, b""), path
            assert response.headers["ETag"] == etags[path]
            assert response.headers["Cache-Control"] == "private, no-cache"
        head = client.head(url, headers=acme.headers)
        assert (head.status_code, head.headers["ETag"]) == (200, etags[path])
        assert client.get(url, headers={"If-None-Match": "*"}).status_code == 401

    change, changed = CHANGES[name]
    change(acme)

    statuses = {
        path: client.get(url, headers={**acme.headers, "If-None-Match": etags[path]}).status_code
        for path, url in paths.items()
    }
    assert [path for path, status in statuses.items() if status == 200] == changed
    assert set(statuses.values()) <= {200, 304}
