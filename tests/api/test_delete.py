"""DELETE /api/images/{id} and DELETE /api/scans/{scanId}: who may delete, and what remains."""

import time
from dataclasses import dataclass
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from harborguard.model import Role, UserStatus
from harborguard.store import organizations
from harborguard.store.connection import Connection
from harborguard.store.counters import find_incorrect_counters
from tests.support import reports
from tests.support.cookies import V4_NAME, make_claims, mint_v4
from tests.support.recording import DAY, ingest
from tests.support.reports import SCANNED_AT
from tests.support.tenants import OPERATOR, Tenant, Tenants

API = "ghcr.io/acme/api"
OLD, NEW = (1, 0, 0, 0), (0, 1, 0, 0)
KINDS = ["images", "scans"]
MESSAGES = {"images": "Image not found.", "scans": "Scan not found."}
HOST = "http://localhost"


@dataclass
class Recorded:
    """An image with two scans of one tag; the newer one counts."""

    image_id: str
    old: str
    new: str

    def path(self, kind: str) -> str:
        """Return the path of the image, or of its newer scan."""
        return f"/api/{kind}/{self.image_id if kind == 'images' else self.new}"


def body_of(name: str, scan_id: str, counts: tuple[int, ...], days: int) -> bytes:
    return reports.envelope(
        f"{name}:1", counts, scan_id=scan_id, finished_at=SCANNED_AT + days * DAY
    )


def record(tenant: Tenant, name: str = API) -> Recorded:
    """Record two scans, of which the newer one supersedes the older one."""
    old, new = (
        ingest(tenant.conn, tenant.organization_id, body_of(name, f"{name} {days}", counts, days))
        for days, counts in ((0, OLD), (1, NEW))
    )
    return Recorded(new.image_id, old.scan_id, new.scan_id)


@pytest.fixture
def recorded(tenants: Tenants) -> Recorded:
    """Record an image of Acme."""
    return record(tenants.acme)


@pytest.fixture
def admin(tenants: Tenants) -> dict[str, str]:
    """Return the headers of an admin of Acme."""
    return {"X-API-Key": tenants.acme.add_key(Role.ADMIN)}


def expect_deleted(response: TestResponse) -> None:
    assert (response.status_code, response.data) == (204, b"")
    assert "Content-Type" not in response.headers
    assert response.headers["Cache-Control"] == "private, no-cache"


def expect_error(response: TestResponse, status: int, code: str, message: str) -> None:
    assert response.status_code == status
    assert response.json == {"error": {"code": code, "message": message}}


def list_images(client: FlaskClient, headers: dict[str, str]) -> TestResponse:
    return client.get("/api/images", headers=headers, buffered=True)


def audit(tenant: Tenant) -> list[tuple[Any, ...]]:
    return tenant.conn.execute(
        "SELECT actor, action, target, ip FROM audit_log"
        " WHERE organization_id = %s AND action LIKE '%%.deleted' ORDER BY created_at",
        [tenant.organization_id],
    ).fetchall()


# -- effect ---------------------------------------------------------------------------------------


def test_deleted_image_is_gone_from_every_route_and_table(
    client: FlaskClient, tenants: Tenants, recorded: Recorded, admin: dict[str, str]
) -> None:
    before = list_images(client, admin)
    path = recorded.path("images")

    expect_deleted(client.delete(path, headers=admin))

    for route in (path, f"{path}/tags", f"{path}/vulnerabilities"):
        expect_error(client.get(route, headers=admin), 404, "NOT_FOUND", "Image not found.")
    expect_error(client.delete(path, headers=admin), 404, "NOT_FOUND", "Image not found.")
    scan = client.delete(recorded.path("scans"), headers=admin)
    expect_error(scan, 404, "NOT_FOUND", "Scan not found.")
    after = list_images(client, admin)
    assert (after.json["data"], after.json["meta"]["total"]) == ([], 0)
    assert after.headers["ETag"] != before.headers["ETag"]
    for table in ("images", "tags", "scans", "finding_sets", "findings", "scan_findings"):
        query = f"SELECT FROM {table} WHERE organization_id = %s".encode()
        assert tenants.acme.conn.execute(query, [tenants.acme.organization_id]).rowcount == 0


def test_deleted_image_reported_again_is_a_new_image(
    client: FlaskClient, tenants: Tenants, recorded: Recorded, admin: dict[str, str]
) -> None:
    expect_deleted(client.delete(recorded.path("images"), headers=admin))
    again = record(tenants.acme)
    assert again.image_id != recorded.image_id
    [row] = list_images(client, admin).json["data"]
    assert (row["id"], row["grade"]) == (again.image_id, "B")


def test_deleted_scan_gives_its_place_to_the_older_one_whose_replay_restores_the_findings(
    client: FlaskClient, tenants: Tenants, recorded: Recorded, admin: dict[str, str]
) -> None:
    before = list_images(client, admin)
    image = recorded.path("images")

    expect_deleted(client.delete(recorded.path("scans"), headers=admin))

    after = list_images(client, admin)
    assert after.headers["ETag"] != before.headers["ETag"]
    assert after.json["data"] == [
        {
            **before.json["data"][0],
            "riskScore": 75,
            "grade": "D",
            "vulnerabilities": {"critical": 1, "high": 0, "medium": 0, "low": 0},
            "lastScannedAt": "2026-04-26T14:22:11.000Z",
        }
    ]
    details = client.get(image, headers=admin).json["data"]
    assert (details["lastScan"]["id"], details["otherScans"]) == (recorded.old, [])
    assert client.get(f"{image}/vulnerabilities", headers=admin).status_code == 410
    replayed = client.post(
        "/api/scans/upload",
        data=body_of(API, f"{API} 0", OLD, 0),
        content_type="application/json",
        headers=admin,
    )
    assert (replayed.status_code, replayed.json["scanId"]) == (200, recorded.old)
    findings = client.get(f"{image}/vulnerabilities", headers=admin).json
    assert (findings["meta"]["total"], findings["data"][0]["severity"]) == (1, "CRITICAL")
    expect_error(
        client.delete(recorded.path("scans"), headers=admin), 404, "NOT_FOUND", "Scan not found."
    )


def test_image_without_scans_and_tags_stays_as_never_scanned(
    client: FlaskClient, tenants: Tenants, recorded: Recorded, admin: dict[str, str]
) -> None:
    before = list_images(client, admin).json["data"][0]
    for scan_id in (recorded.new, recorded.old):
        expect_deleted(client.delete(f"/api/scans/{scan_id}", headers=admin))
    assert list_images(client, admin).json["data"] == [
        {
            **before,
            "tagCount": 0,
            "latestTag": None,
            "latestDigest": None,
            "riskScore": None,
            "grade": None,
            "vulnerabilities": {"critical": 0, "high": 0, "medium": 0, "low": 0},
            "lastScannedAt": None,
        }
    ]
    summary = client.get("/api/images/summary", headers=admin).json["data"]
    assert (summary["total"], summary["neverScanned"]) == (1, 1)
    assert find_incorrect_counters(tenants.acme.conn, tenants.acme.organization_id) == []


# -- who may delete -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("role", Role)
def test_only_admins_and_owners_delete(
    client: FlaskClient, tenants: Tenants, recorded: Recorded, kind: str, role: Role
) -> None:
    headers = {"X-API-Key": tenants.acme.add_key(role)}
    response = client.delete(recorded.path(kind), headers=headers)
    if role in {Role.OWNER, Role.ADMIN}:
        expect_deleted(response)
    else:
        expect_error(response, 403, "FORBIDDEN", "The role admin or higher is required.")
        assert client.get(recorded.path("images"), headers=headers).status_code == 200


def credentials_of(tenant: Tenant) -> dict[str, tuple[str, dict[str, str]]]:
    """Return for each kind of credential the actor and the headers of an admin."""
    organizations.set_user(tenant.conn, tenant.email, actor=OPERATOR, role=Role.ADMIN)
    key = tenant.add_key(Role.ADMIN)
    [(key_id,)] = tenant.conn.execute(
        "SELECT id FROM api_keys WHERE organization_id = %s AND role = 'admin'",
        [tenant.organization_id],
    ).fetchall()
    session = mint_v4(make_claims(time.time(), email=tenant.email))
    return {
        "key": (f"apikey:{key_id}", {"X-API-Key": key}),
        "token": (f"token:{tenant.token_id}", {"Authorization": f"Bearer {tenant.token}"}),
        "session": (f"user:{tenant.user_id}", {"Cookie": f"{V4_NAME}={session}"}),
    }


@pytest.mark.parametrize("credential", ["key", "token", "session"])
def test_deletion_with_each_kind_of_credential_is_recorded(
    client: FlaskClient, tenants: Tenants, recorded: Recorded, credential: str
) -> None:
    actor, headers = credentials_of(tenants.acme)[credential]
    for kind in ("scans", "images"):
        expect_deleted(client.delete(recorded.path(kind), headers=headers))
        assert client.delete(recorded.path(kind), headers=headers).status_code == 404
    assert audit(tenants.acme) == [
        (actor, "scan.deleted", f"scan/{recorded.new}", "127.0.0.1"),
        (actor, "image.deleted", f"image/{recorded.image_id}", "127.0.0.1"),
    ]
    assert audit(tenants.globex) == []


@pytest.mark.parametrize("kind", KINDS)
def test_removed_or_suspended_user_deletes_nothing(
    client: FlaskClient, tenants: Tenants, recorded: Recorded, kind: str
) -> None:
    acme = tenants.acme
    headers = credentials_of(acme)
    organizations.set_user(acme.conn, acme.email, actor=OPERATOR, status=UserStatus.SUSPENDED)
    for credential in ("token", "session"):
        assert client.delete(recorded.path(kind), headers=headers[credential][1]).status_code == 401
    organizations.remove_user(acme.conn, acme.email, actor=OPERATOR)
    for credential in ("token", "session"):
        assert client.delete(recorded.path(kind), headers=headers[credential][1]).status_code == 401
    assert audit(acme) == []


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_another_organization_stay(
    client: FlaskClient, tenants: Tenants, recorded: Recorded, kind: str
) -> None:
    theirs = {"X-API-Key": tenants.globex.add_key(Role.OWNER)}
    response = client.delete(recorded.path(kind), headers=theirs)
    expect_error(response, 404, "NOT_FOUND", MESSAGES[kind])
    assert list_images(client, tenants.acme.headers).json["data"][0]["grade"] == "B"
    assert audit(tenants.acme) == audit(tenants.globex) == []


@pytest.mark.parametrize("kind", KINDS)
def test_key_of_a_registry_deletes_within_it_only(
    client: FlaskClient, tenants: Tenants, recorded: Recorded, kind: str
) -> None:
    acme = tenants.acme
    other = record(acme, "quay.io/acme/api")
    registry_id = acme.add_registry("quay.io")
    bound = {"X-API-Key": acme.add_key(Role.ADMIN, registry_id=registry_id)}
    response = client.delete(recorded.path(kind), headers=bound)
    expect_error(response, 404, "NOT_FOUND", MESSAGES[kind])
    expect_deleted(client.delete(other.path(kind), headers=bound))
    assert len(audit(acme)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_malformed_id_is_not_found(
    client: FlaskClient, recorded: Recorded, admin: dict[str, str], kind: str
) -> None:
    path = recorded.path(kind)
    for name in ("%00", f"{path.rpartition('/')[2]}%00", "%FF", "é", "x" * 2000, "upload"):
        response = client.delete(f"/api/{kind}/{name}", headers=admin)
        expect_error(response, 404, "NOT_FOUND", MESSAGES[kind])


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/images/img-1", {"DELETE", "GET", "HEAD", "OPTIONS"}),
        ("/api/scans/scan-1", {"DELETE", "OPTIONS"}),
        ("/api/scans/upload", {"DELETE", "OPTIONS", "POST"}),
        ("/api/images", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_other_methods_are_405_with_allow(
    client: FlaskClient, admin: dict[str, str], path: str, allowed: set[str]
) -> None:
    for method in {"DELETE", "GET", "PATCH", "POST", "PUT"} - allowed:
        response = client.open(path, method=method, headers=admin)
        assert (response.status_code, set(response.allow)) == (405, allowed)
    response = client.options(path)
    assert (response.status_code, set(response.allow)) == (200, allowed)


# -- requests of other sites ----------------------------------------------------------------------

OTHER_SITE = "A session may change data only from a page of this service's own origin."


@pytest.mark.parametrize(
    ("headers", "is_accepted"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": HOST}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": HOST}, True),
        ({"Origin": "http://LOCALHOST:8443"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://evil.localhost"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "", "Origin": HOST}, False),
        ({"Origin": "https://evil.test"}, False),
        ({"Origin": "http://localhost.evil.test"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://["}, False),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_session_deletes_from_its_own_origin_only(
    client: FlaskClient,
    tenants: Tenants,
    recorded: Recorded,
    kind: str,
    headers: dict[str, str],
    is_accepted: bool,
) -> None:
    credentials = credentials_of(tenants.acme)
    response = client.delete(
        recorded.path(kind), headers={**credentials["session"][1], **headers}, base_url=HOST
    )
    if is_accepted:
        expect_deleted(response)
        return
    expect_error(response, 403, "FORBIDDEN", OTHER_SITE)
    assert audit(tenants.acme) == []
    # The browser adds no key, so a key with these headers was added by its owner.
    key = {**credentials["key"][1], **headers}
    expect_deleted(client.delete(recorded.path(kind), headers=key, base_url=HOST))


def test_session_reads_from_any_origin(
    client: FlaskClient, tenants: Tenants, recorded: Recorded
) -> None:
    headers = credentials_of(tenants.acme)["session"][1]
    response = list_images(client, {**headers, "Sec-Fetch-Site": "cross-site"})
    assert response.status_code == 200


def test_deadlock_is_tried_again(
    client: FlaskClient,
    conn: Connection,
    tenants: Tenants,
    recorded: Recorded,
    admin: dict[str, str],
) -> None:
    """A trigger cancels the first attempt of each deletion, as a deadlock does."""
    conn.execute("CREATE SEQUENCE attempts")
    conn.execute(
        "CREATE FUNCTION disturb() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('attempts') % 2 = 1 THEN RAISE SQLSTATE '40P01'; END IF;"
        " RETURN NULL; END $$"
    )
    conn.execute(
        "CREATE TRIGGER disturb AFTER INSERT ON audit_log"
        " FOR EACH STATEMENT EXECUTE FUNCTION disturb()"
    )
    try:
        for kind in ("scans", "images"):
            expect_deleted(client.delete(recorded.path(kind), headers=admin))
        assert conn.execute("SELECT last_value FROM attempts").fetchall() == [(4,)]
        assert len(audit(tenants.acme)) == 2
    finally:
        conn.execute("DROP FUNCTION disturb CASCADE")
        conn.execute("DROP SEQUENCE attempts")
