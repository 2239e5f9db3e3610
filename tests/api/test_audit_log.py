"""GET /api/audit-log: rows, roles, filters, pages, and the tenant's own log alone."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask, g
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harborguard.api.auth import current_actor
from harborguard.model import Action, Actor, Principal, PrincipalKind, Role, Scope
from harborguard.store import organizations
from harborguard.store.audit import record_action
from harborguard.store.connection import Connection
from tests.support.cookies import V4_NAME, make_claims, mint_v4
from tests.support.tenants import OPERATOR, Tenant, Tenants

READERS = [Role.OWNER, Role.ADMIN, Role.AUDITOR]
OTHERS = [Role.DEVELOPER, Role.CI, Role.VIEWER]
NOON = datetime(2026, 4, 26, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CALLER = Actor("apikey:key-1", "192.0.2.7")
TIME_MESSAGE = "must be a time like 2026-04-26T14:22:11Z or a date like 2026-04-26"


def add(tenant: Tenant, actor: Actor, action: Action, target: str, at: datetime) -> str:
    """Record an action at a given time and return the id of its entry."""
    record_action(tenant.conn, tenant.organization_id, actor, action, target)
    [(entry_id,)] = tenant.conn.execute(
        "UPDATE audit_log SET created_at = %s WHERE organization_id = %s AND target = %s"
        " RETURNING id",
        (at, tenant.organization_id, target),
    ).fetchall()
    return entry_id


@pytest.fixture
def headers(tenants: Tenants) -> dict[str, str]:
    """Return the headers of Acme's auditor. The log is empty."""
    key = tenants.acme.add_key(Role.AUDITOR)
    tenants.acme.conn.execute("TRUNCATE audit_log")
    return {"X-API-Key": key}


@pytest.fixture
def four(tenants: Tenants, headers: dict[str, str]) -> dict[str, str]:
    """Record four actions of two actors, one second apart, and return the auditor's headers."""
    for second, (actor, action) in enumerate(
        [
            (OPERATOR, Action.API_KEY_CREATED),
            (CALLER, Action.IMAGE_DELETED),
            (OPERATOR, Action.API_KEY_REVOKED),
            (CALLER, Action.SCAN_DELETED),
        ]
    ):
        add(tenants.acme, actor, action, f"thing/{second}", NOON + second * SECOND)
    return headers


def get(client: FlaskClient, headers: dict[str, str], **parameters: object) -> Any:
    """Return the body of a page; the response must be 200."""
    response = client.get(f"/api/audit-log?{urlencode(parameters)}", headers=headers)
    assert response.status_code == 200, response.data
    return response.json


def targets(client: FlaskClient, headers: dict[str, str], **parameters: object) -> list[str]:
    """Return the targets of a page's rows, without their kind."""
    rows = get(client, headers, **parameters)["data"]
    return [row["target"].removeprefix("thing/") for row in rows]


# -- rows -----------------------------------------------------------------------------------------


def test_page_has_rows_meta_and_links(
    client: FlaskClient, tenants: Tenants, headers: dict[str, str], statements: list[str]
) -> None:
    acme = tenants.acme
    first = add(acme, OPERATOR, Action.API_KEY_CREATED, "apikey/key-1", NOON)
    second = add(acme, CALLER, Action.IMAGE_DELETED, "image/img-1", NOON + SECOND)
    statements.clear()

    body = get(client, headers)

    assert len(statements) == 2
    assert body == {
        "data": [
            {
                "id": second,
                "orgId": acme.organization_id,
                "actor": "apikey:key-1",
                "action": "image.deleted",
                "target": "image/img-1",
                "ip": "192.0.2.7",
                "createdAt": "2026-04-26T12:00:01.000Z",
            },
            {
                "id": first,
                "orgId": acme.organization_id,
                "actor": "cli:operator",
                "action": "apikey.created",
                "target": "apikey/key-1",
                "ip": None,
                "createdAt": "2026-04-26T12:00:00.000Z",
            },
        ],
        "meta": {
            "page": 1,
            "pageSize": 50,
            "total": 2,
            "totalPages": 1,
            "hasNext": False,
            "hasPrev": False,
        },
        "links": {"self": "/api/audit-log?page=1&limit=50"},
    }
    keys = ["id", "orgId", "actor", "action", "target", "ip", "createdAt"]
    assert all(list(row) == keys for row in body["data"])


def test_empty_log_is_an_empty_page(client: FlaskClient, headers: dict[str, str]) -> None:
    body = get(client, headers, page=3)
    assert body["data"] == []
    assert body["meta"] == {
        "page": 3,
        "pageSize": 50,
        "total": 0,
        "totalPages": 0,
        "hasNext": False,
        "hasPrev": False,
    }


def test_response_is_private(client: FlaskClient, headers: dict[str, str]) -> None:
    response = client.get("/api/audit-log", headers=headers)
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert response.headers["Vary"] == "Authorization, Cookie, X-API-Key"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (PrincipalKind.API_KEY, "apikey:id-1"),
        (PrincipalKind.ACCESS_TOKEN, "token:id-1"),
        (PrincipalKind.SESSION, "user:id-1"),
    ],
)
@pytest.mark.parametrize(("address", "ip"), [("2001:db8::7", "2001:db8::7"), ("", None)])
def test_actor_of_a_request_is_its_principal_and_address(
    app: Flask, kind: PrincipalKind, name: str, address: str, ip: str | None
) -> None:
    """On a Unix socket without a proxy, the service sees no address."""
    with app.test_request_context(environ_base={"REMOTE_ADDR": address}):
        g.principal = Principal(kind, "id-1", Scope("org-1"), Role.OWNER)
        assert current_actor() == Actor(name, ip)


# -- who may read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", READERS)
def test_owner_admin_and_auditor_may_read(
    client: FlaskClient, tenants: Tenants, role: Role
) -> None:
    key = tenants.acme.add_key(role)
    assert client.get("/api/audit-log", headers={"X-API-Key": key}).status_code == 200


@pytest.mark.parametrize("role", OTHERS)
def test_other_role_returns_403(client: FlaskClient, tenants: Tenants, role: Role) -> None:
    key = tenants.acme.add_key(role)
    response = client.get("/api/audit-log", headers={"X-API-Key": key})
    assert response.status_code == 403
    message = "One of the roles owner, admin, auditor is required."
    assert response.json == {"error": {"code": "FORBIDDEN", "message": message}}


def test_every_role_is_covered() -> None:
    assert {*READERS, *OTHERS} == {*Role}


@pytest.mark.parametrize("role", Role)
def test_token_and_session_have_the_role_of_their_user(
    client: FlaskClient, tenants: Tenants, role: Role
) -> None:
    acme = tenants.acme
    organizations.set_user(acme.conn, acme.email, actor=OPERATOR, role=role)
    cookie = mint_v4(make_claims(time.time(), email=acme.email))
    expected = 200 if role in READERS else 403
    for headers in ({"Authorization": f"Bearer {acme.token}"}, {"Cookie": f"{V4_NAME}={cookie}"}):
        assert client.get("/api/audit-log", headers=headers).status_code == expected


@pytest.mark.parametrize("role", READERS)
def test_key_limited_to_a_registry_returns_403(
    client: FlaskClient, tenants: Tenants, role: Role
) -> None:
    registry_id = tenants.acme.add_registry("ghcr.io")
    key = tenants.acme.add_key(role, registry_id=registry_id)
    response = client.get("/api/audit-log?limit=0", headers={"X-API-Key": key})
    assert response.status_code == 403
    message = "The key is limited to a registry. The audit log is of the organization."
    assert response.json == {"error": {"code": "FORBIDDEN", "message": message}}


def test_missing_credential_returns_401(client: FlaskClient) -> None:
    assert client.get("/api/audit-log").status_code == 401


def test_entries_of_another_organization_are_not_listed(
    client: FlaskClient, tenants: Tenants, headers: dict[str, str]
) -> None:
    add(tenants.globex, OPERATOR, Action.API_KEY_CREATED, "thing/theirs", NOON)
    add(tenants.acme, OPERATOR, Action.API_KEY_CREATED, "thing/ours", NOON)
    body = get(client, headers)
    assert [row["target"] for row in body["data"]] == ["thing/ours"]
    assert body["meta"]["total"] == 1
    for parameters in (
        {"actor": "cli:operator"},
        {"action": "apikey.created"},
        {"until": "2027-01-01"},
    ):
        assert targets(client, headers, **parameters) == ["ours"]


# -- filters --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "expected", "link"),
    [
        ({}, ["3", "2", "1", "0"], ""),
        ({"actor": "cli:operator"}, ["2", "0"], "&actor=cli%3Aoperator"),
        ({"actor": "cli:OPERATOR"}, [], "&actor=cli%3AOPERATOR"),
        ({"actor": "cli:"}, [], "&actor=cli%3A"),
        ({"actor": " "}, ["3", "2", "1", "0"], ""),
        ({"action": "image.deleted"}, ["1"], "&action=image.deleted"),
        (
            {"action": " scan.deleted,,IMAGE.deleted,image.deleted"},
            ["3", "1"],
            "&action=image.deleted%2Cscan.deleted",
        ),
        ({"action": ","}, ["3", "2", "1", "0"], ""),
        ({"action": "inventory.pruned"}, [], "&action=inventory.pruned"),
        ({"since": "2026-04-26T12:00:02Z"}, ["3", "2"], "&since=2026-04-26T12%3A00%3A02Z"),
        ({"until": "2026-04-26T12:00:02Z"}, ["1", "0"], "&until=2026-04-26T12%3A00%3A02Z"),
        (
            {"until": "2026-04-26t14:00:02.000001+02:00"},
            ["2", "1", "0"],
            "&until=2026-04-26T12%3A00%3A02.000001Z",
        ),
        ({"since": "2026-04-26"}, ["3", "2", "1", "0"], "&since=2026-04-26T00%3A00%3A00Z"),
        ({"until": "2026-04-26"}, [], "&until=2026-04-26T00%3A00%3A00Z"),
        ({"since": "2026-04-27"}, [], "&since=2026-04-27T00%3A00%3A00Z"),
        (
            {"since": "2026-04-26T12:00:03Z", "until": "2026-04-26T12:00:01Z"},
            [],
            "&since=2026-04-26T12%3A00%3A03Z&until=2026-04-26T12%3A00%3A01Z",
        ),
        (
            {
                "until": "2026-04-26T12:00:03Z",
                "since": "2026-04-26T12:00:01Z",
                "action": "image.deleted,apikey.created",
                "actor": "apikey:key-1",
            },
            ["1"],
            "&actor=apikey%3Akey-1&action=apikey.created%2Cimage.deleted"
            "&since=2026-04-26T12%3A00%3A01Z&until=2026-04-26T12%3A00%3A03Z",
        ),
    ],
)
def test_filter_matches_and_is_normalized_in_links(
    client: FlaskClient,
    four: dict[str, str],
    parameters: dict[str, str],
    expected: list[str],
    link: str,
) -> None:
    body = get(client, four, **parameters)
    assert [row["target"].removeprefix("thing/") for row in body["data"]] == expected
    assert body["meta"]["total"] == len(expected)
    assert body["links"] == {"self": f"/api/audit-log?page=1&limit=50{link}"}
    assert client.get(body["links"]["self"], headers=four).json == body


@pytest.mark.parametrize("action", Action)
def test_each_action_can_be_recorded_listed_and_filtered(
    client: FlaskClient, tenants: Tenants, headers: dict[str, str], action: Action
) -> None:
    add(tenants.acme, OPERATOR, action, f"thing/{action}", NOON)
    assert targets(client, headers, action=action.value) == [action.value]


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize(
    "value",
    [
        "", " ", "yesterday", "1777200131", "2026-04", "2026-4-26", "2026-02-30", "0001-01-01",
        "0000-01-01", "2026-04-26T", "2026-04-26 Z", "2026-04-26T14:22Z", "2026-04-26T14:22:11",
        "2026-04-26T25:22:11Z", "2026-04-26T14:22:11+0200", "2026-04-26T14:22:11 02:00",
        "٢٠٢٦-٠٤-٢٦", "2026-04-26T14:22:11Z\x00", "9999-12-31T23:59:59-01:00",
    ],
)  # fmt: skip
def test_malformed_time_returns_400_with_an_example(
    client: FlaskClient, headers: dict[str, str], name: str, value: str
) -> None:
    response = client.get(f"/api/audit-log?{urlencode({name: value})}", headers=headers)
    assert response.status_code == 400
    assert response.json["error"]["issues"] == [{"path": name, "message": TIME_MESSAGE}]


@pytest.mark.parametrize(
    ("query", "path", "message"),
    [
        ("action=key.created", "action",
         f"must be a comma-separated list of {', '.join(Action)}"),
        ("action=image.deleted;scan.deleted", "action",
         f"must be a comma-separated list of {', '.join(Action)}"),
        (f"actor={'a' * 201}", "actor", "must be at most 200 characters"),
        ("actor=cli%3A%00", "actor", "must not contain control characters"),
        ("limit=201", "limit", "must be an integer from 1 to 200"),
        ("page=0", "page", "must be an integer from 1 to 9223372036854775807"),
        ("actor=a&actor=b", "actor", "given more than once; separate values with a comma"),
    ],
)  # fmt: skip
def test_invalid_parameter_returns_400(
    client: FlaskClient, headers: dict[str, str], query: str, path: str, message: str
) -> None:
    response = client.get(f"/api/audit-log?{query}", headers=headers)
    assert response.status_code == 400
    assert response.json == {
        "error": {
            "code": "BAD_REQUEST",
            "message": "The query is not valid.",
            "issues": [{"path": path, "message": message}],
        }
    }


# -- pages ----------------------------------------------------------------------------------------


def follow(client: FlaskClient, headers: dict[str, str], link: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a page and of all later pages."""
    while True:
        body: Any = client.get(link, headers=headers).json
        yield from body["data"]
        if "next" not in body["links"]:
            return
        link = body["links"]["next"]


def test_page_past_the_end_has_the_total_and_the_last_page_as_prev(
    client: FlaskClient, four: dict[str, str]
) -> None:
    body = get(client, four, page=9, limit=3, actor="cli:operator")
    assert body["data"] == []
    assert body["meta"]["total"] == 2
    assert body["links"] == {
        "self": "/api/audit-log?page=9&limit=3&actor=cli%3Aoperator",
        "prev": "/api/audit-log?page=1&limit=3&actor=cli%3Aoperator",
    }


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seconds=st.lists(st.integers(0, 3), max_size=12),
    limit=st.integers(1, 5),
    since=st.none() | st.integers(0, 4),
    until=st.none() | st.integers(0, 4),
    action=st.none() | st.sampled_from([Action.IMAGE_DELETED, Action.SCAN_DELETED]),
)
def test_pages_contain_each_matching_row_once_newest_first(
    client: FlaskClient,
    tenants: Tenants,
    headers: dict[str, str],
    conn: Connection,
    seconds: list[int],
    limit: int,
    since: int | None,
    until: int | None,
    action: Action | None,
) -> None:
    conn.execute("TRUNCATE audit_log")
    actions = [Action.IMAGE_DELETED, Action.SCAN_DELETED]
    rows = [
        (second, add(tenants.acme, OPERATOR, actions[i % 2], f"t/{i}", NOON + second * SECOND), i)
        for i, second in enumerate(seconds)
    ]
    expected = [
        f"t/{i}"
        for second, _, i in sorted(rows, reverse=True)
        if (since is None or second >= since)
        and (until is None or second < until)
        and (action is None or action is actions[i % 2])
    ]
    times = {"since": since, "until": until}
    parameters: dict[str, object] = {
        name: (NOON + value * SECOND).isoformat()
        for name, value in times.items()
        if value is not None
    }
    if action:
        parameters["action"] = action.value
    link = f"/api/audit-log?{urlencode({'limit': limit, **parameters})}"
    assert [row["target"] for row in follow(client, headers, link)] == expected
