"""GET /api/images/changes: rows in the order of change, cursors, scopes, and 400 and 410."""

from typing import Any
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient

from harborguard.api.cursors import encode_cursor
from harborguard.listing import ChangePosition
from harborguard.model import Role, Scope
from harborguard.store.connection import Connection
from harborguard.store.deletion import delete_image, remove_registry
from harborguard.store.images.rows import forget_deletions
from harborguard.store.registries import upsert_registry
from tests.support import reports
from tests.support.listing import list_images
from tests.support.recording import DAY, ingest
from tests.support.reports import SCANNED_AT
from tests.support.tenants import OPERATOR, Tenant, Tenants

NAMES = ["ghcr.io/acme/a", "quay.io/acme/b", "ghcr.io/acme/c"]
INVALID = {
    "code": "BAD_REQUEST",
    "message": "The query is not valid.",
    "issues": [
        {
            "path": "after",
            "message": "is not a cursor of this organization and registry; start again without it",
        }
    ],
}
TOO_OLD = {
    "code": "GONE",
    "message": (
        "The cursor is older than the deletions that are kept, 30 days. Start again without after."
    ),
}
OTHER_REGISTRIES = {
    "code": "GONE",
    "message": "Other registries match the filter now. Start again without after.",
}


@pytest.fixture
def images(tenants: Tenants) -> dict[str, str]:
    """Add an image of Globex and three of Acme; return the ids of Acme's by name."""
    tenants.globex.add_image("ghcr.io/globex/other", 10)
    return {name: tenants.acme.add_image(name, 40) for name in NAMES}


def get(client: FlaskClient, key: str, **parameters: object) -> Any:
    """Return the body of a page; the response must be 200."""
    path = f"/api/images/changes?{urlencode(parameters)}"
    response = client.get(path, headers={"X-API-Key": key})
    assert response.status_code == 200, response.data
    return response.json


def error_of(client: FlaskClient, key: str, status: int, **parameters: object) -> Any:
    """Return the error of a response with this status."""
    path = f"/api/images/changes?{urlencode(parameters)}"
    response = client.get(path, headers={"X-API-Key": key})
    assert response.status_code == status, response.data
    return response.json["error"]


def names(body: Any) -> list[str]:
    return [row["name"] for row in body["data"]]


def scan(tenant: Tenant, name: str, days: int) -> None:
    """Record a scan of an image."""
    finished_at = SCANNED_AT + days * DAY
    report = reports.envelope(
        f"{name}:1.0", (0, 1), scan_id=f"{name}-{days}", finished_at=finished_at
    )
    ingest(tenant.conn, tenant.organization_id, report)


def forget_all(tenant: Tenant) -> None:
    """Forget all deletions, as 30 days later."""
    tenant.conn.execute("UPDATE image_changes SET deleted_at = deleted_at - interval '31 days'")
    forget_deletions(tenant.conn, tenant.organization_id)


# -- rows and pages -------------------------------------------------------------------------------


def test_first_page_has_the_rows_of_the_list_in_the_order_of_change(
    client: FlaskClient, tenants: Tenants, images: dict[str, str], statements: list[str]
) -> None:
    rows = {row["name"]: row for row in list_images(client, tenants.acme)["data"]}
    statements.clear()
    body = get(client, tenants.acme.key)
    assert len(statements) == 2  # with the one for the credential
    cursor = body["meta"]["cursor"]
    assert body == {
        "data": [{**rows[name], "change": "updated"} for name in NAMES],
        "meta": {"pageSize": 50, "hasNext": False, "cursor": cursor},
        "links": {"self": "/api/images/changes?limit=50"},
    }
    assert list(body["data"][0]) == [*rows[NAMES[0]], "change"]


def test_cursor_of_the_end_returns_only_later_changes(
    client: FlaskClient, tenants: Tenants, images: dict[str, str]
) -> None:
    acme = tenants.acme
    cursor = get(client, acme.key)["meta"]["cursor"]
    nothing = get(client, acme.key, after=cursor)
    assert nothing == {
        "data": [],
        "meta": {"pageSize": 50, "hasNext": False, "cursor": cursor},
        "links": {"self": f"/api/images/changes?after={cursor}&limit=50"},
    }

    scan(acme, NAMES[1], 1)
    scan(tenants.globex, NAMES[1], 1)
    scan(acme, NAMES[1], 2)
    delete_image(acme.conn, Scope(acme.organization_id), images[NAMES[0]], actor=OPERATOR)
    [updated, *_] = list_images(client, acme, search="acme/b")["data"]
    body = get(client, acme.key, after=cursor)
    assert body["data"] == [
        {**updated, "change": "updated"},
        {"id": images[NAMES[0]], "name": NAMES[0], "change": "deleted"},
    ]
    assert get(client, acme.key, after=body["meta"]["cursor"])["data"] == []


def test_links_lead_to_every_change_once(
    client: FlaskClient, tenants: Tenants, images: dict[str, str]
) -> None:
    key = tenants.acme.key
    body = get(client, key, limit=1, registry="GHCR.io")
    cursor = body["meta"]["cursor"]
    assert body["meta"] == {"pageSize": 1, "hasNext": True, "cursor": cursor}
    assert body["links"] == {
        "self": "/api/images/changes?limit=1&registry=GHCR.io",
        "next": f"/api/images/changes?after={cursor}&limit=1&registry=GHCR.io",
    }
    found = names(body)
    while link := body["links"].get("next"):
        body = client.get(link, headers={"X-API-Key": key}).json
        found += names(body)
    assert found == [NAMES[0], NAMES[2]]


def test_page_that_ends_within_a_version_is_continued(
    client: FlaskClient, tenants: Tenants, images: dict[str, str]
) -> None:
    acme = tenants.acme
    acme.conn.execute("UPDATE image_changes SET version = 7")
    first = get(client, acme.key, limit=2)
    second = get(client, acme.key, limit=2, after=first["meta"]["cursor"])
    assert len(first["data"]), len(second["data"]) == (2, 1)
    assert sorted(names(first) + names(second)) == sorted(NAMES)


def test_image_that_changes_during_a_walk_is_listed_again_at_its_end(
    client: FlaskClient, tenants: Tenants, images: dict[str, str]
) -> None:
    first = get(client, tenants.acme.key, limit=2)
    scan(tenants.acme, NAMES[0], 1)
    second = get(client, tenants.acme.key, limit=2, after=first["meta"]["cursor"])
    assert (names(first), names(second)) == (NAMES[:2], [NAMES[2], NAMES[0]])


def test_empty_inventory_has_a_cursor_to_come_back_with(
    client: FlaskClient, tenants: Tenants
) -> None:
    key = tenants.acme.key
    body = get(client, key)
    assert (body["data"], body["meta"]["hasNext"]) == ([], False)
    tenants.acme.add_image(NAMES[0])
    assert names(get(client, key, after=body["meta"]["cursor"])) == [NAMES[0]]


def test_new_image_without_a_finished_scan_is_a_change(
    client: FlaskClient, tenants: Tenants
) -> None:
    acme = tenants.acme
    report = reports.envelope("ghcr.io/acme/a@" + reports.manifest("a"), status="FAILED")
    ingest(acme.conn, acme.organization_id, report)
    rows = list_images(client, acme)["data"]
    assert get(client, acme.key)["data"] == [{**row, "change": "updated"} for row in rows]
    cursor = get(client, acme.key)["meta"]["cursor"]
    ingest(acme.conn, acme.organization_id, report)  # a replay changes nothing
    assert get(client, acme.key, after=cursor)["data"] == []


# -- scopes ---------------------------------------------------------------------------------------


def test_registry_filter_matches_id_host_and_name_like_the_list(
    client: FlaskClient, tenants: Tenants, images: dict[str, str]
) -> None:
    acme = tenants.acme
    registry_id = acme.add_registry("quay.io", "Quay")
    for text in (registry_id, "QUAY.io", "quay"):
        assert names(get(client, acme.key, registry=text)) == [NAMES[1]]
    assert get(client, acme.key, registry=" ")["links"] == {"self": "/api/images/changes?limit=50"}
    assert names(get(client, acme.key, registry=registry_id.upper())) == []


def test_filter_that_matches_several_registries_merges_their_changes(
    client: FlaskClient, tenants: Tenants, images: dict[str, str]
) -> None:
    acme = tenants.acme
    for host in ("ghcr.io", "quay.io"):
        acme.add_registry(host, "Both")
    acme.add_image("docker.io/acme/z")
    first = get(client, acme.key, registry="both", limit=2)
    second = get(client, acme.key, registry="both", limit=2, after=first["meta"]["cursor"])
    assert (names(first), names(second)) == (NAMES[:2], NAMES[2:])


def test_key_limited_to_a_registry_sees_its_changes_alone(
    client: FlaskClient, tenants: Tenants, images: dict[str, str]
) -> None:
    acme = tenants.acme
    registry_id = acme.add_registry("quay.io")
    key = acme.add_key(registry_id=registry_id)
    body = get(client, key)
    assert names(body) == [NAMES[1]]
    assert names(get(client, key, registry="ghcr.io")) == []
    cursor = body["meta"]["cursor"]
    delete_image(acme.conn, Scope(acme.organization_id), images[NAMES[0]], actor=OPERATOR)
    assert get(client, key, after=cursor)["data"] == []
    delete_image(acme.conn, Scope(acme.organization_id), images[NAMES[1]], actor=OPERATOR)
    assert get(client, key, after=cursor)["data"] == [
        {"id": images[NAMES[1]], "name": NAMES[1], "change": "deleted"}
    ]


@pytest.mark.parametrize("role", list(Role))
def test_every_role_reads_the_changes(
    client: FlaskClient, tenants: Tenants, images: dict[str, str], role: Role
) -> None:
    assert names(get(client, tenants.acme.add_key(role))) == NAMES


def test_request_without_a_credential_returns_401(client: FlaskClient, tenants: Tenants) -> None:
    assert client.get("/api/images/changes").status_code == 401


# -- 400 ------------------------------------------------------------------------------------------


def test_cursor_of_another_organization_scope_or_filter_returns_400(
    client: FlaskClient, tenants: Tenants, images: dict[str, str]
) -> None:
    acme = tenants.acme
    limited = acme.add_key(registry_id=acme.add_registry("ghcr.io"))
    cursor = get(client, acme.key)["meta"]["cursor"]
    filtered = get(client, acme.key, registry="ghcr.io")["meta"]["cursor"]
    theirs = get(client, tenants.globex.key)["meta"]["cursor"]
    for key, parameters in (
        (acme.key, {"after": theirs}),
        (limited, {"after": cursor}),
        (acme.key, {"after": cursor, "registry": "ghcr.io"}),
        (acme.key, {"after": filtered}),
        (acme.key, {"after": filtered, "registry": "quay.io"}),
        (limited, {"after": filtered, "registry": "ghcr.io"}),
    ):
        assert error_of(client, key, 400, **parameters) == INVALID


def test_malformed_cursor_returns_400(
    client: FlaskClient, tenants: Tenants, images: dict[str, str]
) -> None:
    """No byte of a cursor can be changed, removed or added."""
    key = tenants.acme.key
    cursor = get(client, key)["meta"]["cursor"]
    changed = [
        cursor[:n] + ("A" if cursor[n] != "A" else "B") + cursor[n + 1 :]
        for n in range(len(cursor))
    ]
    truncated = [cursor[:n] for n in range(1, len(cursor))]
    others = ["x", "é", "\0", "%", "a" * 5000, cursor + "=", cursor + "A", cursor + "\n", "=" * 4]
    for text in [*changed, *truncated, *others]:
        assert error_of(client, key, 400, after=text) == INVALID, text


@pytest.mark.parametrize("image_id", ["a\0", "a b", "x" * 65])
def test_forged_cursor_with_an_impossible_id_returns_400(
    client: FlaskClient, tenants: Tenants, image_id: str
) -> None:
    acme = tenants.acme
    registries = ChangePosition(1, image_id, 1, b"\0" * 8)
    cursor = encode_cursor(registries, Scope(acme.organization_id), None)
    assert error_of(client, acme.key, 400, after=cursor) == INVALID


def test_invalid_parameters_return_400_with_an_issue_each(
    client: FlaskClient, tenants: Tenants
) -> None:
    path = "/api/images/changes?limit=201&registry=%00&page=0&after=a&after=b"
    response = client.get(path, headers=tenants.acme.headers)
    assert response.status_code == 400
    issues = response.json["error"]["issues"]
    assert {issue["path"]: issue["message"] for issue in issues} == {
        "limit": "must be an integer from 1 to 200",
        "registry": "must not contain control characters",
        "after": "given more than once; separate values with a comma",
    }


# -- 410 ------------------------------------------------------------------------------------------


def delete(tenant: Tenant, image_id: str) -> None:
    delete_image(tenant.conn, Scope(tenant.organization_id), image_id, actor=OPERATOR)


def test_cursor_from_before_a_forgotten_deletion_returns_410(
    client: FlaskClient, tenants: Tenants, images: dict[str, str]
) -> None:
    acme = tenants.acme
    before = get(client, acme.key)["meta"]["cursor"]
    limited = {"registry": "quay.io"}
    of_quay = get(client, acme.key, **limited)["meta"]["cursor"]
    delete(acme, images[NAMES[0]])
    after = get(client, acme.key, after=before)["meta"]["cursor"]
    forget_all(acme)
    assert error_of(client, acme.key, 410, after=before) == TOO_OLD
    assert get(client, acme.key, after=after)["data"] == []
    # The deletion was in another registry.
    assert get(client, acme.key, after=of_quay, **limited)["data"] == []
    delete(acme, images[NAMES[1]])
    forget_all(acme)
    assert error_of(client, acme.key, 410, after=of_quay, **limited) == TOO_OLD
    assert names(get(client, acme.key)) == [NAMES[2]]


def test_walk_that_begins_after_the_deletion_never_returns_410(
    client: FlaskClient, tenants: Tenants, images: dict[str, str]
) -> None:
    """Its first pages have older versions than the deletion that is forgotten meanwhile."""
    acme = tenants.acme
    delete(acme, images[NAMES[2]])
    body = get(client, acme.key, limit=1)
    forget_all(acme)
    body = get(client, acme.key, limit=1, after=body["meta"]["cursor"])
    assert (names(body), body["meta"]["hasNext"]) == ([NAMES[1]], False)
    assert get(client, acme.key, after=body["meta"]["cursor"])["data"] == []


def test_walk_in_which_a_deletion_was_made_and_forgotten_returns_410(
    client: FlaskClient, tenants: Tenants, images: dict[str, str]
) -> None:
    acme = tenants.acme
    cursor = get(client, acme.key, limit=1)["meta"]["cursor"]
    delete(acme, images[NAMES[0]])
    forget_all(acme)
    assert error_of(client, acme.key, 410, after=cursor) == TOO_OLD


def test_cursor_between_deletions_of_one_version_returns_410_if_they_are_forgotten(
    client: FlaskClient, tenants: Tenants, images: dict[str, str]
) -> None:
    acme = tenants.acme
    start = get(client, acme.key)["meta"]["cursor"]
    for _ in remove_registry(
        acme.conn, acme.organization_id, acme.add_registry("ghcr.io"), actor=OPERATOR
    ):
        pass
    within = get(client, acme.key, after=start, limit=1)["meta"]
    end = get(client, acme.key, after=within["cursor"], limit=1)["meta"]
    assert (within["hasNext"], end["hasNext"]) == (True, False)
    forget_all(acme)
    assert error_of(client, acme.key, 410, after=within["cursor"]) == TOO_OLD
    assert get(client, acme.key, after=end["cursor"])["data"] == []


def test_filter_that_matches_other_registries_than_before_returns_410(
    client: FlaskClient, tenants: Tenants, images: dict[str, str], conn: Connection
) -> None:
    acme = tenants.acme
    cursor = get(client, acme.key, registry="shared")["meta"]["cursor"]
    upsert_registry(
        conn, acme.organization_id, "quay.io", actor=OPERATOR, name="Shared",
        default_provider="generic",
    )  # fmt: skip
    error = error_of(client, acme.key, 410, registry="shared", after=cursor)
    assert error == OTHER_REGISTRIES
    body = get(client, acme.key, registry="shared")
    assert names(body) == [NAMES[1]]
    for _ in remove_registry(
        conn, acme.organization_id, acme.add_registry("quay.io"), actor=OPERATOR
    ):
        pass
    cursor = body["meta"]["cursor"]
    error = error_of(client, acme.key, 410, registry="shared", after=cursor)
    assert error == OTHER_REGISTRIES
