"""Registries of an organization."""

from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from harborguard.errors import NotFound
from harborguard.model import Action, Actor
from harborguard.store.audit import record_action
from harborguard.store.connection import Connection
from harborguard.store.counters import change_counters
from harborguard.store.statements import STATEMENTS


def find_registry(conn: Connection, organization_id: str, host: str) -> str | None:
    """Return the id of the organization's registry with a host, or None."""
    key = {"organization_id": organization_id, "host": host}
    row = conn.execute(STATEMENTS["find_registry"], key).fetchone()
    return row[0] if row else None


def get_registry(conn: Connection, organization_id: str, host: str) -> str:
    """Return the id of the organization's registry with a host; raise NotFound if missing."""
    registry_id = find_registry(conn, organization_id, host)
    if registry_id is None:
        raise NotFound(
            f"The registry {host} does not exist. "
            f"Create it with: harborguard registry add {host} --org ORG"
        )
    return registry_id


def ensure_registry(
    conn: Connection, organization_id: str, host: str, *, actor: Actor | None = None
) -> str:
    """Return the id of the organization's registry with a host; create it if missing.

    With an actor, the audit log gets an entry if the registry is created. Call it in a transaction
    then.
    """
    key = {"organization_id": organization_id, "host": host}
    while True:
        is_new = conn.execute(STATEMENTS["add_registry"], key).rowcount > 0
        if registry_id := find_registry(conn, organization_id, host):
            break
        # Another transaction deleted the registry between the two statements.
    if is_new and actor is not None:
        target = f"registry/{registry_id}"
        record_action(conn, organization_id, actor, Action.REGISTRY_ADDED, target)
    return registry_id


def upsert_registry(
    conn: Connection,
    organization_id: str,
    host: str,
    *,
    actor: Actor,
    default_provider: str,
    name: str | None = None,
    provider: str | None = None,
) -> str:
    """Create a registry, or change the name or provider of an existing one; return its id.

    `default_provider` applies if `provider` is None and the stored provider is missing or generic.
    A new name increases the versions of the inventory and of the registry, because lists can be
    filtered by it (contract 1.6). The audit log has an entry if anything changed.
    """
    parameters = {
        "organization_id": organization_id,
        "host": host,
        "name": name,
        "provider": provider,
        "default_provider": default_provider,
    }
    with conn.transaction():
        # The INSERT may wait for a transaction that adds the same registry, so no lock is held yet.
        is_new = conn.execute(STATEMENTS["add_registry"], parameters).rowcount > 0
        conn.execute(STATEMENTS["lock_inventory"], parameters)
        [before] = conn.execute(STATEMENTS["lock_registry"], parameters).fetchall()
        [(registry_id, *after)] = conn.execute(STATEMENTS["set_registry"], parameters).fetchall()
        if is_new or list(before) != after:
            action = Action.REGISTRY_ADDED if is_new else Action.REGISTRY_UPDATED
            record_action(conn, organization_id, actor, action, f"registry/{registry_id}")
        if before[0] != after[0]:
            change_counters(conn, organization_id, {(registry_id, None): 0}, images=0)
    return registry_id


def list_registries(conn: Connection, organization_id: str) -> list[dict[str, Any]]:
    """Return an organization's registries, ordered by host, with their image counts."""
    cursor = conn.cursor(row_factory=dict_row)
    key = {"organization_id": organization_id}
    return cursor.execute(STATEMENTS["list_registries"], key).fetchall()


def record_sync(
    conn: Connection, organization_id: str, registry_id: str, synced_at: datetime
) -> None:
    """Record that a complete sync of a registry began at `synced_at`."""
    key = {"organization_id": organization_id, "registry_id": registry_id}
    conn.execute(STATEMENTS["record_registry_sync"], {**key, "synced_at": synced_at})
