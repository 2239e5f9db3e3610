"""Authentication: three schemes, one 401 body, and changes that apply to the next request."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from harborguard.auth.credentials import parse_credential
from harborguard.config import Config
from harborguard.model import Role, UserStatus
from harborguard.store import organizations, principals
from harborguard.store.connection import Connection
from tests.conftest import Events
from tests.support.cookies import (
    V4_NAME,
    V5_NAME,
    chunk,
    make_claims,
    make_cookie_header,
    mint_v4,
    mint_v5,
)
from tests.support.tenants import OPERATOR, Tenant, Tenants

UNAUTHORIZED = {
    "error": {
        "code": "UNAUTHORIZED",
        "message": "A valid API key, personal access token or session is required.",
    }
}
DAY = timedelta(days=1)


def session_headers(tenant: Tenant, **claims: object) -> dict[str, str]:
    """Return the headers of a browser in which the tenant's user is signed in."""
    token = mint_v4(make_claims(time.time(), **{"email": tenant.email, **claims}))
    return {"Cookie": make_cookie_header([(V4_NAME, token)])}


def get_status(client: FlaskClient, headers: dict[str, str]) -> int:
    """Return the status of a request for the list; each 401 must have the same body."""
    response = client.get("/api/images", headers=headers)
    if response.status_code == 401:
        assert response.json == UNAUTHORIZED
        assert response.headers["WWW-Authenticate"] == "Bearer"
    return response.status_code


def all_credentials(tenant: Tenant) -> list[dict[str, str]]:
    """Return the headers of a tenant's credentials, of each kind and in each place."""
    v5 = mint_v5(make_claims(time.time(), email=tenant.email.upper()))
    long = mint_v4(make_claims(time.time(), email=tenant.email, picture="x" * 6000))
    return [
        {"X-API-Key": tenant.key},
        {"Authorization": f"Bearer {tenant.key}"},
        {"Authorization": f"bearer {tenant.token}"},
        {"X-API-Key": tenant.token},
        session_headers(tenant),
        {"Cookie": make_cookie_header([(V5_NAME, v5)])},
        {"Cookie": make_cookie_header(chunk(f"__Secure-{V4_NAME}", long))},
        session_headers(tenant, email=..., sub=tenant.user_id),
        {"Authorization": "Basic dXNlcjpwYXNz", **session_headers(tenant)},
    ]


def test_every_credential_lists_its_own_organization(client: FlaskClient, tenants: Tenants) -> None:
    tenants.acme.add_image("ghcr.io/acme/api")
    tenants.globex.add_image("ghcr.io/globex/api")
    for tenant, name in (
        (tenants.acme, "ghcr.io/acme/api"),
        (tenants.globex, "ghcr.io/globex/api"),
    ):
        for headers in all_credentials(tenant):
            body = client.get("/api/images", headers=headers).json
            assert body is not None
            assert [row["name"] for row in body["data"]] == [name], headers


def test_no_credential_returns_401(client: FlaskClient, tenants: Tenants) -> None:
    assert get_status(client, {}) == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": ""},
        {"X-API-Key": "hg_ak_"},
        {"X-API-Key": "hg_xx_" + "0" * 48},
        {"X-API-Key": "one,two"},
        {"X-API-Key": "hg_ak_" + "0" * 300},
        {"X-API-Key": "hg_ak_é"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer eyJhbGciOiJkaXIifQ.a.b.c.d"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Cookie": "next-auth.session-token=x"},
        {"Cookie": "next-auth.session-tokenX=x"},
    ],
)
def test_malformed_credential_returns_401_without_a_statement(
    client: FlaskClient, tenants: Tenants, statements: list[str], headers: dict[str, str]
) -> None:
    statements.clear()
    assert get_status(client, headers) == 401
    assert statements == []


def test_unknown_key_returns_401_after_one_statement(
    client: FlaskClient, tenants: Tenants, statements: list[str]
) -> None:
    statements.clear()
    assert get_status(client, {"X-API-Key": "hg_ak_" + "0" * 48}) == 401
    assert len(statements) == 1


def test_first_credential_present_decides(client: FlaskClient, tenants: Tenants) -> None:
    bad = "hg_ak_" + "0" * 48
    good_bearer = {"Authorization": f"Bearer {tenants.acme.key}"}
    assert (
        get_status(client, {"X-API-Key": bad, **good_bearer, **session_headers(tenants.acme)})
        == 401
    )
    assert (
        get_status(client, {"Authorization": f"Bearer {bad}", **session_headers(tenants.acme)})
        == 401
    )
    assert (
        get_status(client, {"X-API-Key": tenants.acme.key, "Authorization": f"Bearer {bad}"}) == 200
    )
    assert get_status(client, {**good_bearer, "Cookie": f"{V4_NAME}=bad"}) == 200


def test_revoked_or_expired_credential_returns_401_at_the_next_request(
    client: FlaskClient, tenants: Tenants, conn: Connection
) -> None:
    acme = tenants.acme
    soon, past = datetime.now(UTC) + DAY, datetime.now(UTC) - DAY
    assert get_status(client, {"X-API-Key": acme.add_key(expires_at=soon)}) == 200
    assert get_status(client, {"X-API-Key": acme.add_key(expires_at=past)}) == 401
    assert get_status(client, {"X-API-Key": acme.key}) == 200
    principals.revoke_api_key(conn, acme.key_id, actor=OPERATOR)
    assert get_status(client, {"X-API-Key": acme.key}) == 401
    assert get_status(client, {"X-API-Key": acme.token}) == 200
    principals.revoke_access_token(conn, acme.token_id, actor=OPERATOR)
    assert get_status(client, {"X-API-Key": acme.token}) == 401
    conn.execute("UPDATE personal_access_tokens SET revoked_at = NULL, expires_at = now()")
    assert get_status(client, {"X-API-Key": acme.token}) == 401


@pytest.mark.parametrize("user_status", [UserStatus.INVITED, UserStatus.SUSPENDED])
def test_inactive_user_returns_401_at_the_next_request(
    client: FlaskClient, tenants: Tenants, conn: Connection, user_status: UserStatus
) -> None:
    token = {"Authorization": f"Bearer {tenants.acme.token}"}
    assert (get_status(client, token), get_status(client, session_headers(tenants.acme))) == (
        200,
        200,
    )
    organizations.set_user(conn, tenants.acme.email, actor=OPERATOR, status=user_status)
    assert (get_status(client, token), get_status(client, session_headers(tenants.acme))) == (
        401,
        401,
    )
    assert get_status(client, tenants.acme.headers) == 200
    organizations.set_user(conn, tenants.acme.email, actor=OPERATOR, status=UserStatus.ACTIVE)
    assert (get_status(client, token), get_status(client, session_headers(tenants.acme))) == (
        200,
        200,
    )


def test_token_of_a_user_moved_to_another_organization_returns_401(
    client: FlaskClient, tenants: Tenants, conn: Connection
) -> None:
    tenants.globex.add_image("ghcr.io/globex/secret")
    conn.execute(
        "UPDATE users SET organization_id = %s WHERE id = %s",
        (tenants.globex.organization_id, tenants.acme.user_id),
    )
    assert get_status(client, {"Authorization": f"Bearer {tenants.acme.token}"}) == 401
    body = client.get("/api/images", headers=session_headers(tenants.acme)).json
    assert body is not None
    assert body["meta"]["total"] == 1


@pytest.mark.parametrize("role", list(Role))
def test_list_is_allowed_for_every_role(client: FlaskClient, tenants: Tenants, role: Role) -> None:
    assert get_status(client, {"X-API-Key": tenants.acme.add_key(role)}) == 200


def test_unknown_role_returns_403(client: FlaskClient, tenants: Tenants, conn: Connection) -> None:
    with conn.transaction():
        conn.execute("ALTER TABLE api_keys DROP CONSTRAINT api_keys_role_check")
        conn.execute("UPDATE api_keys SET role = 'janitor'")
    try:
        response = client.get("/api/images", headers=tenants.acme.headers)
    finally:
        conn.execute("UPDATE api_keys SET role = 'viewer'")
        conn.execute(
            "ALTER TABLE api_keys ADD CONSTRAINT api_keys_role_check CHECK (role IN"
            " ('owner', 'admin', 'developer', 'ci', 'auditor', 'viewer'))"
        )
    assert response.status_code == 403
    assert response.json == {
        "error": {"code": "FORBIDDEN", "message": "The role viewer or higher is required."}
    }


def test_session_claims_do_not_choose_role_or_organization(
    client: FlaskClient, tenants: Tenants
) -> None:
    tenants.globex.add_image("ghcr.io/globex/secret")
    claims = {"role": "owner", "organizationId": tenants.globex.organization_id, "org": "globex"}
    headers = {
        **session_headers(tenants.acme, **claims),
        "X-Org-Id": tenants.globex.organization_id,
    }
    body = client.get("/api/images?organizationId=globex", headers=headers).json
    assert body is not None
    assert body["meta"]["total"] == 0


def test_session_of_an_unknown_user_returns_401(client: FlaskClient, tenants: Tenants) -> None:
    unknown = mint_v4(make_claims(time.time(), email="unknown@acme.test"))
    assert get_status(client, {"Cookie": f"{V4_NAME}={unknown}"}) == 401
    wrong_sub = session_headers(tenants.acme, email=..., sub="usr-unknown")
    assert get_status(client, wrong_sub) == 401
    # A session with an e-mail address is not looked up by its subject.
    other = mint_v4(make_claims(time.time(), email="unknown@acme.test", sub=tenants.acme.user_id))
    assert get_status(client, {"Cookie": f"{V4_NAME}={other}"}) == 401


@pytest.mark.parametrize(
    ("table", "secret"), [("api_keys", "key"), ("personal_access_tokens", "token")]
)
def test_credential_use_is_recorded_once_a_minute(
    client: FlaskClient,
    tenants: Tenants,
    conn: Connection,
    statements: list[str],
    table: str,
    secret: str,
) -> None:
    headers = {"X-API-Key": getattr(tenants.acme, secret)}
    read = f"SELECT last_used_at FROM {table} WHERE organization_id = %s"

    def last_used() -> datetime | None:
        [moment] = conn.execute(read.encode(), (tenants.acme.organization_id,)).fetchone() or [None]
        return moment

    def count_updates() -> int:
        return sum("SKIP LOCKED" in statement for statement in statements)

    assert last_used() is None
    statements.clear()
    client.get("/api/images", headers=headers).close()
    first = last_used()
    assert (first is not None, count_updates()) == (True, 1)
    client.get("/api/images", headers=headers).close()
    assert (last_used(), count_updates()) == (first, 1)
    conn.execute((f"UPDATE {table} SET last_used_at = now() - interval '61 seconds'").encode())
    client.get("/api/images", headers=headers).close()
    second = last_used()
    assert second is not None
    assert second > datetime.now(UTC) - timedelta(seconds=30)
    assert count_updates() == 2


@pytest.mark.parametrize("secret", ["key", "token"])
def test_credential_use_recorded_twice_at_once_is_written_once(
    tenants: Tenants, conn: Connection, secret: str
) -> None:
    """Two workers may find at the same time that the use is due."""
    credential = parse_credential({"X-API-Key": getattr(tenants.acme, secret)}, [], None)
    principal = principals.find_principal(conn, credential)
    assert principal is not None
    assert principal.has_stale_last_use
    table = "api_keys" if secret == "key" else "personal_access_tokens"

    def last_used() -> list[tuple[datetime]]:
        query = f"SELECT last_used_at FROM {table} WHERE last_used_at IS NOT NULL"
        return conn.execute(query.encode()).fetchall()

    principals.record_use(conn, principal)
    [first] = last_used()
    principals.record_use(conn, principal)
    assert last_used() == [first]


def test_credential_use_with_a_locked_row_neither_waits_nor_fails(
    client: FlaskClient, tenants: Tenants, conn: Connection, events: Events
) -> None:
    with conn.transaction():
        conn.execute("SELECT 1 FROM api_keys FOR UPDATE")
        began = time.monotonic()
        response = client.get("/api/images", headers=tenants.acme.headers)
        response.close()
        assert response.status_code == 200
        assert time.monotonic() - began < 4
    assert not [event for event in events() if event["event"] != "request"]


def test_database_contains_no_secret(tenants: Tenants, conn: Connection) -> None:
    rows = conn.execute(
        "SELECT api_keys::text FROM api_keys"
        " UNION ALL SELECT personal_access_tokens::text FROM personal_access_tokens"
    ).fetchall()
    assert len(rows) == 4
    for [row] in rows:
        for secret in (
            tenants.acme.key,
            tenants.acme.token,
            tenants.globex.key,
            tenants.globex.token,
        ):
            assert secret not in row
            assert secret[10:] not in row


def test_requests_without_a_valid_credential_are_limited_by_address(
    config: Config, tenants: Tenants, events: Events
) -> None:
    app = create_app(replace(config, rejections_per_minute=3, proxies=1))
    invalid = [{}, {"X-API-Key": "x"}, {"X-API-Key": "hg_ak_" + "0" * 48}]
    invalid += [{"X-API-Key": "hg_ak_" + str(n) * 48} for n in range(3)]

    def get(headers: dict[str, str], address: str) -> TestResponse:
        forwarded = {**headers, "X-Forwarded-For": f"9.9.9.9, {address}"}
        return app.test_client(use_cookies=False).get("/api/images", headers=forwarded)

    with app.extensions["harborguard"].pool:
        responses = [get(headers, "192.0.2.1") for headers in invalid]
        assert [response.status_code for response in responses] == [401] * 3 + [429] * 3
        assert 1 <= int(responses[-1].headers["Retry-After"]) <= 60
        message = "At most 3 requests without a valid credential per minute are allowed."
        assert responses[-1].json == {"error": {"code": "RATE_LIMITED", "message": message}}
        assert get(tenants.acme.headers, "192.0.2.1").status_code == 200
        assert get({}, "192.0.2.2").status_code == 401
    reasons = [event["rejection_reason"] for event in events() if "rejection_reason" in event]
    assert reasons == ["missing", "malformed", *["unknown"] * 4, "missing"]
