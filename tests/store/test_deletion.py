"""Deletions of registries, organizations and users: what goes, what stays, what is repeated."""

from typing import Any

import pytest

from harborguard.errors import Conflict, NotFound
from harborguard.model import ObservedRepository, ObservedTag, Role, Scope
from harborguard.store import deletion, organizations
from harborguard.store.connection import Connection
from harborguard.store.counters import find_incorrect_counters
from harborguard.store.images.rows import get_image_id
from harborguard.store.registries import find_registry
from harborguard.store.repositories import record_repository
from tests.support import reports
from tests.support.recording import DAY, ingest
from tests.support.reports import SCANNED_AT, manifest
from tests.support.tenants import OPERATOR, Tenant, Tenants

API = "ghcr.io/acme/api"


def fill(tenant: Tenant, images: int = 5) -> None:
    """Record images in two registries, with two scans and findings each."""
    for number in range(images):
        host = ("ghcr.io", "quay.io")[number % 2]
        for days in (0, 1):
            body = reports.envelope(
                f"{host}/acme/service-{number}:{days}",
                (1, 2),
                scan_id=f"{number}-{days}",
                finished_at=SCANNED_AT + days * DAY,
            )
            ingest(tenant.conn, tenant.organization_id, body)


def rows_by_table(conn: Connection, organization_id: str) -> dict[str, list[Any]]:
    """Return the rows of an organization in every table that can have some, as sorted text."""
    tables = conn.execute(
        "SELECT table_name FROM information_schema.columns JOIN information_schema.tables"
        " USING (table_schema, table_name) WHERE table_schema = 'public'"
        " AND column_name = 'organization_id' AND table_type = 'BASE TABLE' ORDER BY 1"
    ).fetchall()
    columns = [(name, "organization_id") for (name,) in tables] + [("organizations", "id")]
    return {
        table: conn.execute(
            f"SELECT {table}::text FROM {table} WHERE {column} = %s ORDER BY 1".encode(),
            [organization_id],
        ).fetchall()
        for table, column in columns
    }


def delete_organization(tenant: Tenant) -> int:
    deletion.begin_organization_deletion(tenant.conn, tenant.organization_id)
    return sum(deletion.delete_organization(tenant.conn, tenant.organization_id))


def test_deleted_organization_leaves_no_row_in_any_table(
    conn: Connection, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "MAX_IMAGES", 2)
    for tenant in (tenants.acme, tenants.globex):
        fill(tenant)
        tenant.add_key(registry_id=tenant.add_registry("ghcr.io"))
    before = rows_by_table(conn, tenants.acme.organization_id)
    assert len(before) == 16
    assert [table for table, rows in before.items() if not rows] == []
    theirs = rows_by_table(conn, tenants.globex.organization_id)

    assert delete_organization(tenants.acme) == 5

    after = rows_by_table(conn, tenants.acme.organization_id)
    assert after == {table: [] for table in before}
    assert rows_by_table(conn, tenants.globex.organization_id) == theirs
    organizations.create_organization(conn, "acme", actor=OPERATOR)


def test_organization_that_is_being_deleted_is_named_as_such(
    conn: Connection, tenants: Tenants
) -> None:
    acme = tenants.acme
    deletion.begin_organization_deletion(conn, acme.organization_id)
    message = "is being deleted. Complete the deletion with: harborguard org delete"
    for id_or_name in ("acme", acme.organization_id):
        with pytest.raises(Conflict, match=f"{id_or_name}' {message} {id_or_name}$"):
            organizations.get_organization(conn, id_or_name)
    with pytest.raises(Conflict, match=f"'acme' {message} acme$"):
        organizations.create_organization(conn, "acme", actor=OPERATOR)
    states = {row["name"]: row["deleting_since"] for row in organizations.list_organizations(conn)}
    assert (states["acme"] is None, states["globex"]) == (False, None)
    assert organizations.list_users(conn, acme.organization_id) == []
    deletion.begin_organization_deletion(conn, acme.organization_id)
    again = {row["name"]: row["deleting_since"] for row in organizations.list_organizations(conn)}
    assert again == states


def test_interrupted_deletion_is_exact_and_continues(
    conn: Connection, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "MAX_IMAGES", 2)
    acme = tenants.acme
    fill(acme, 7)
    deletion.begin_organization_deletion(conn, acme.organization_id)
    interrupted = deletion.delete_organization(conn, acme.organization_id)
    assert [next(interrupted), next(interrupted)] == [2, 2]
    del interrupted

    assert deletion.count_organization(conn, acme.organization_id) == (3, 0, 0)
    assert find_incorrect_counters(conn, acme.organization_id) == []
    assert sum(deletion.delete_organization(conn, acme.organization_id)) == 3
    assert list(deletion.delete_organization(conn, acme.organization_id)) == []
    assert not any(rows_by_table(conn, acme.organization_id).values())


def test_removed_registry_leaves_the_others_and_their_keys(
    conn: Connection, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "MAX_IMAGES", 2)
    acme = tenants.acme
    fill(acme, 7)
    bound = {
        host: acme.add_key(registry_id=acme.add_registry(host)) for host in ("ghcr.io", "quay.io")
    }
    ghcr, quay = acme.add_registry("ghcr.io"), acme.add_registry("quay.io")
    assert len(bound) == 2
    assert deletion.count_registry(conn, acme.organization_id, ghcr) == (4, 0, 1)

    removed = deletion.remove_registry(conn, acme.organization_id, ghcr, actor=OPERATOR)

    assert list(removed) == [2, 2]
    assert find_registry(conn, acme.organization_id, "ghcr.io") is None
    keys = conn.execute(
        "SELECT registry_id FROM api_keys WHERE organization_id = %s ORDER BY 1",
        [acme.organization_id],
    ).fetchall()
    assert keys == [(quay,), (None,)]
    assert conn.execute(
        "SELECT DISTINCT registry_id FROM images WHERE organization_id = %s", [acme.organization_id]
    ).fetchall() == [(quay,)]
    assert find_incorrect_counters(conn, acme.organization_id) == []
    assert conn.execute(
        "SELECT target FROM audit_log WHERE organization_id = %s AND action = 'registry.removed'",
        [acme.organization_id],
    ).fetchall() == [(f"registry/{ghcr}",)]


def test_tag_that_a_sync_observed_stays_when_its_scan_is_deleted(
    conn: Connection, acme: str
) -> None:
    recorded = ingest(conn, acme, reports.envelope(f"{API}:1", (1,), digest=manifest("a")))
    registry_id = find_registry(conn, acme, "ghcr.io")
    assert registry_id
    synced = ObservedRepository(API, (ObservedTag("1", manifest("a")),), SCANNED_AT + DAY)
    record_repository(conn, acme, registry_id, synced)
    deletion.delete_scan(conn, Scope(acme), recorded.scan_id, actor=OPERATOR)
    assert conn.execute(
        "SELECT latest_tag, latest_digest, risk_score, tag_count FROM images"
    ).fetchall() == [("1", manifest("a"), None, 1)]


def test_image_is_found_by_id_and_name_in_its_organization(
    conn: Connection, acme: str, globex: str
) -> None:
    image_id = ingest(conn, acme, reports.envelope(f"{API}:1")).image_id
    assert get_image_id(conn, acme, API) == get_image_id(conn, acme, image_id) == image_id
    for organization_id, name in ((acme, f"{API}:1"), (globex, API), (globex, image_id)):
        with pytest.raises(NotFound, match="without a tag"):
            get_image_id(conn, organization_id, name)


def test_removed_user_can_be_added_again(conn: Connection, tenants: Tenants) -> None:
    acme = tenants.acme
    organizations.remove_user(conn, acme.email, actor=OPERATOR)
    with pytest.raises(NotFound, match="does not exist"):
        organizations.remove_user(conn, acme.email, actor=OPERATOR)
    tables = rows_by_table(conn, acme.organization_id)
    assert (tables["users"], tables["personal_access_tokens"]) == ([], [])
    user_id = organizations.add_user(
        conn, acme.organization_id, acme.email, Role.VIEWER, actor=OPERATOR
    )
    assert user_id != acme.user_id
    assert len(rows_by_table(conn, tenants.globex.organization_id)["users"]) == 1
