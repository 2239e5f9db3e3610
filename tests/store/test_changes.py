"""The stored changes: what forgets deletions, and the rows that every image has."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, LiteralString

import pytest
from psycopg import sql

from harborguard.config import Config
from harborguard.listing import ChangesPage, DeletedImage
from harborguard.model import Scope
from harborguard.store.connection import Connection
from harborguard.store.deletion import (
    begin_organization_deletion,
    delete_image,
    delete_organization,
)
from harborguard.store.images import rows
from harborguard.store.images.changes import ALL_CHANGES, REGISTRY_CHANGES, list_changes
from harborguard.store.prune import Prune, PrunePolicy
from tests.support.postgres import migrated_database, pool_connection
from tests.support.tenants import OPERATOR, Tenant, Tenants

DAYS = timedelta(days=1)
LIMIT = 30 * DAYS


def changes_of(tenant: Tenant) -> ChangesPage:
    return list_changes(tenant.conn, Scope(tenant.organization_id), limit=200)


def deleted_names(tenant: Tenant) -> list[str]:
    return [item.name for item in changes_of(tenant).items if isinstance(item, DeletedImage)]


def delete(tenant: Tenant, name: str, age: timedelta) -> None:
    """Add an image and delete it, as some time ago."""
    image_id = tenant.add_image(name)
    delete_image(tenant.conn, Scope(tenant.organization_id), image_id, actor=OPERATOR)
    tenant.conn.execute(
        "UPDATE image_changes SET deleted_at = now() - %s WHERE image_id = %s", [age, image_id]
    )


def prune(tenant: Tenant, *, dry_run: bool = False) -> None:
    run = Prune(tenant.conn, tenant.organization_id, PrunePolicy(), actor=OPERATOR, dry_run=dry_run)
    for _ in run.run():
        pass


def test_prune_forgets_the_deletions_that_are_older_than_30_days(tenants: Tenants) -> None:
    for tenant in (tenants.acme, tenants.globex):
        delete(tenant, "ghcr.io/acme/new", LIMIT - timedelta(minutes=1))
        delete(tenant, "ghcr.io/acme/old", LIMIT + timedelta(minutes=1))
    # The older deletion has the lower version.
    tenants.acme.conn.execute(
        "UPDATE image_changes SET version = 1 WHERE deleted_name = 'ghcr.io/acme/old'"
    )
    prune(tenants.acme, dry_run=True)
    assert len(deleted_names(tenants.acme)) == 2
    prune(tenants.acme)
    assert deleted_names(tenants.acme) == ["ghcr.io/acme/new"]
    assert len(deleted_names(tenants.globex)) == 2


def test_prune_forgets_many_deletions_in_batches(
    tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_FORGOTTEN_AT_ONCE", 2)
    acme = tenants.acme
    ids = [acme.add_image(f"ghcr.io/acme/{number}") for number in range(5)]
    with acme.conn.transaction():
        rows.delete_images(acme.conn, acme.organization_id, ids)
    acme.conn.execute("UPDATE image_changes SET deleted_at = now() - interval '31 days'")
    prune(acme)
    assert changes_of(acme).items == []


def test_deletion_of_an_image_forgets_old_deletions_too(tenants: Tenants) -> None:
    delete(tenants.acme, "ghcr.io/acme/old", LIMIT + DAYS)
    delete(tenants.acme, "ghcr.io/acme/new", timedelta())
    assert deleted_names(tenants.acme) == ["ghcr.io/acme/new"]


def test_image_created_again_has_another_id_and_the_deletion_stays(tenants: Tenants) -> None:
    delete(tenants.acme, "ghcr.io/acme/a", timedelta())
    tenants.acme.add_image("ghcr.io/acme/a")
    deleted, updated = changes_of(tenants.acme).items
    assert isinstance(deleted, DeletedImage)
    assert not isinstance(updated, DeletedImage)
    assert deleted.name == updated.name
    assert deleted.id != updated.id


def test_changes_of_a_deleted_organization_are_deleted(tenants: Tenants, conn: Connection) -> None:
    acme = tenants.acme
    acme.add_image("ghcr.io/acme/a")
    delete(acme, "ghcr.io/acme/b", timedelta())
    tenants.globex.add_image("ghcr.io/acme/a")
    begin_organization_deletion(conn, acme.organization_id)
    assert sum(delete_organization(conn, acme.organization_id)) == 1
    found = conn.execute("SELECT organization_id FROM image_changes").fetchall()
    assert found == [(tenants.globex.organization_id,)]
    assert changes_of(acme).items == []


# -- plans ----------------------------------------------------------------------------------------

FILL = """
INSERT INTO image_changes (organization_id, image_id, registry_id, version)
SELECT 'org-1', 'img-' || n, CASE WHEN n % 1000 = 0 THEN 'reg-2' ELSE 'reg-1' END, n
FROM generate_series(1, 20000) AS n
"""
FIRST = {"organization_id": "org-1", "version": 0, "image_id": "", "limit": 11}
MIDDLE = {**FIRST, "version": 10_000}  # of the second registry
OF_REGISTRY = {"scope_registry_id": "reg-2", "registry": None}
STATEMENT_OF: dict[str, LiteralString] = {"whole": ALL_CHANGES, "limited": REGISTRY_CHANGES}


@pytest.fixture(scope="module", params=[True, False], ids=["analyzed", "planned while empty"])
def large(request: pytest.FixtureRequest, server_url: str) -> Iterator[Connection]:
    """Yield a connection to 20,000 changes, of which 20 are of the second registry.

    The statements are prepared and planned while the table is empty. ANALYZE makes PostgreSQL plan
    them again.
    """
    with migrated_database(server_url) as url, pool_connection(Config(database_url=url)) as conn:
        conn.execute("ALTER TABLE image_changes SET (autovacuum_enabled = off)")
        conn.execute("INSERT INTO organizations (id, name) VALUES ('org-1', 'a')")
        conn.execute("INSERT INTO inventories (organization_id) VALUES ('org-1')")
        conn.execute(
            """
            INSERT INTO registries (organization_id, id, host, name)
            VALUES ('org-1', 'reg-1', 'a.test', 'a'), ('org-1', 'reg-2', 'b.test', 'b')
            """
        )
        for name, statement in STATEMENT_OF.items():
            names = [*FIRST, *OF_REGISTRY]
            numbered = re.sub(r"%\((\w+)\)s", lambda m: f"${names.index(m[1]) + 1}", statement)  # noqa: B023
            types = "text, bigint, text, bigint, text, text"
            conn.execute(f"PREPARE {name} ({types}) AS {numbered}".encode(), prepare=False)
            explain(conn, name, FIRST)
        conn.execute(FILL)
        if request.param:
            conn.execute("ANALYZE")
        yield conn


def explain(conn: Connection, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Execute a prepared statement; return the nodes of its plan that read the changes."""
    query = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {} ({})").format(
        sql.Identifier(name),
        sql.SQL(", ").join(map(sql.Literal, {**parameters, **OF_REGISTRY}.values())),
    )
    [(plan,)] = conn.execute(query, prepare=False).fetchall()
    pending, nodes = [plan[0]["Plan"]], []
    while pending:
        node = pending.pop()
        pending += node.get("Plans", [])
        if node.get("Relation Name") == "image_changes":
            nodes.append(node)
    return nodes


@pytest.mark.parametrize(
    ("name", "parameters", "others"),
    [
        ("whole", FIRST, 0),
        ("whole", MIDDLE, 0),
        ("limited", FIRST, 11 * 999),
        ("limited", {**MIDDLE, "limit": 5}, 4 * 999),
        ("limited", {**FIRST, "version": 20_001}, 0),
    ],
)
def test_page_reads_changes_from_its_position_to_its_last_row(
    large: Connection, name: str, parameters: dict[str, Any], others: int
) -> None:
    [node] = explain(large, name, parameters)
    assert node["Index Name"] == "image_changes_version_idx"
    rows = parameters["limit"] if parameters["version"] < 20_000 else 0
    assert node["Actual Rows"] == rows
    assert node.get("Rows Removed by Filter", 0) == others
