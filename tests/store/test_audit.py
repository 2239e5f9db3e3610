"""The audit log: each entry is stored with the change that it describes, and listed in order."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from psycopg.errors import CheckViolation

from harborguard.auth.credentials import make_secret
from harborguard.config import Config
from harborguard.errors import Conflict, NotFound
from harborguard.listing import AuditCriteria, AuditEntry, Page
from harborguard.model import Action, Actor, PrincipalKind, Role, UserStatus
from harborguard.store import organizations, principals, registries
from harborguard.store.audit import list_actions, record_action
from harborguard.store.connection import Connection, connect
from tests.support.tenants import OPERATOR, Tenant, Tenants
from tests.support.waiting import wait_until

CALLER = Actor("apikey:key-1", "192.0.2.7")


def entries(conn: Connection, organization_id: str) -> list[AuditEntry]:
    """Return the newest 200 entries of an organization."""
    return list_actions(conn, organization_id, AuditCriteria(), Page(1, 200)).items


def forget(conn: Connection) -> None:
    """Empty the audit log, so that it has no entries of the set-up."""
    conn.execute("TRUNCATE audit_log")


def test_recorded_action_is_listed_with_all_fields(conn: Connection, acme: str) -> None:
    forget(conn)
    before = datetime.now(UTC) - timedelta(seconds=1)
    record_action(conn, acme, CALLER, Action.IMAGE_DELETED, "image/img-1")
    [entry] = entries(conn, acme)
    assert entry == AuditEntry(
        entry.id, acme, "apikey:key-1", "image.deleted", "image/img-1", "192.0.2.7",
        entry.created_at,
    )  # fmt: skip
    assert entry.id.startswith("aud-")
    assert before < datetime.fromisoformat(entry.created_at) < before + timedelta(seconds=60)


def test_entry_of_a_command_has_no_address(conn: Connection, acme: str) -> None:
    forget(conn)
    record_action(conn, acme, OPERATOR, Action.IMAGE_DELETED, "image/img-1")
    assert [entry.ip for entry in entries(conn, acme)] == [None]


def test_entries_of_one_transaction_are_listed_in_reverse_order(
    conn: Connection, acme: str
) -> None:
    forget(conn)
    targets = [f"image/img-{number}" for number in range(20)]
    with conn.transaction():
        for target in targets:
            record_action(conn, acme, OPERATOR, Action.IMAGE_DELETED, target)
    assert [entry.target for entry in entries(conn, acme)] == targets[::-1]


def test_action_is_rolled_back_with_its_transaction(conn: Connection, acme: str) -> None:
    forget(conn)
    with conn.transaction(force_rollback=True):
        record_action(conn, acme, OPERATOR, Action.IMAGE_DELETED, "image/img-1")
        assert len(entries(conn, acme)) == 1
    assert entries(conn, acme) == []


@pytest.mark.parametrize("column", ["actor", "action", "target"])
def test_empty_text_is_rejected(conn: Connection, acme: str, column: str) -> None:
    record_action(conn, acme, OPERATOR, Action.IMAGE_DELETED, "image/img-1")
    with pytest.raises(CheckViolation, match=f"audit_log_{column}_check"):
        conn.execute(f"UPDATE audit_log SET {column} = ''".encode())


# -- changes and their entries --------------------------------------------------------------------


def add_token(tenant: Tenant, email: str) -> str:
    secret = make_secret(PrincipalKind.ACCESS_TOKEN)
    return principals.create_access_token(
        tenant.conn, secret, actor=CALLER, name="t", email=email, expires_at=None
    )


def add_key(tenant: Tenant) -> str:
    secret = make_secret(PrincipalKind.API_KEY)
    return principals.create_api_key(
        tenant.conn, tenant.organization_id, secret, actor=CALLER, name="k", role=Role.CI
    )


def add_registry(tenant: Tenant, host: str) -> str:
    return registries.ensure_registry(tenant.conn, tenant.organization_id, host, actor=CALLER)


def add_user(tenant: Tenant, email: str) -> str:
    return organizations.add_user(
        tenant.conn, tenant.organization_id, email, Role.VIEWER, actor=CALLER
    )


def set_user(tenant: Tenant, **changes: Any) -> str:
    organizations.set_user(tenant.conn, tenant.email, actor=CALLER, **changes)
    return tenant.user_id


def set_registry(tenant: Tenant, host: str = "ghcr.io", **changes: Any) -> str:
    return registries.upsert_registry(
        tenant.conn,
        tenant.organization_id,
        host,
        actor=CALLER,
        **{"default_provider": "generic", **changes},
    )


def revoke_key(tenant: Tenant) -> str:
    principals.revoke_api_key(tenant.conn, tenant.key_id, actor=CALLER)
    return tenant.key_id


def revoke_token(tenant: Tenant) -> str:
    principals.revoke_access_token(tenant.conn, tenant.token_id, actor=CALLER)
    return tenant.token_id


Change = Callable[[Tenant], str]
# The change, which returns the id of its target, the kind of the target, and the actions.
CHANGES: dict[str, tuple[Change, str, list[Action]]] = {
    "new user": (partial(add_user, email="new@acme.test"), "user", [Action.MEMBER_ADDED]),
    "other role": (partial(set_user, role=Role.CI), "user", [Action.MEMBER_ROLE_CHANGED]),
    "suspension": (
        partial(set_user, status=UserStatus.SUSPENDED),
        "user",
        [Action.MEMBER_SUSPENDED],
    ),
    "invitation": (partial(set_user, status=UserStatus.INVITED), "user", [Action.MEMBER_INVITED]),
    "role and status": (
        partial(set_user, role=Role.ADMIN, status=UserStatus.SUSPENDED),
        "user",
        [Action.MEMBER_ROLE_CHANGED, Action.MEMBER_SUSPENDED],
    ),
    "same role and status": (
        partial(set_user, role=Role.DEVELOPER, status=UserStatus.ACTIVE),
        "user",
        [],
    ),
    "new key": (add_key, "apikey", [Action.API_KEY_CREATED]),
    "revoked key": (revoke_key, "apikey", [Action.API_KEY_REVOKED]),
    "new token": (partial(add_token, email="dev@acme.test"), "token", [Action.TOKEN_CREATED]),
    "revoked token": (revoke_token, "token", [Action.TOKEN_REVOKED]),
    "registry of a key": (
        partial(add_registry, host="new.test"),
        "registry",
        [Action.REGISTRY_ADDED],
    ),
    "existing registry of a key": (partial(add_registry, host="ghcr.io"), "registry", []),
    "new registry": (partial(set_registry, host="new.test"), "registry", [Action.REGISTRY_ADDED]),
    "new registry with a name": (
        partial(set_registry, host="new.test", name="New", provider="harbor"),
        "registry",
        [Action.REGISTRY_ADDED],
    ),
    "name": (partial(set_registry, name="Mirror"), "registry", [Action.REGISTRY_UPDATED]),
    "provider": (partial(set_registry, provider="harbor"), "registry", [Action.REGISTRY_UPDATED]),
    "detected provider": (
        partial(set_registry, default_provider="github"),
        "registry",
        [Action.REGISTRY_UPDATED],
    ),
    "same registry": (
        partial(set_registry, name="ghcr.io", provider="generic"),
        "registry",
        [],
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_change_is_recorded_once_and_only_with_its_transaction(
    conn: Connection, tenants: Tenants, name: str
) -> None:
    """If the transaction is rolled back, neither the change nor its entry remains."""
    change, kind, actions = CHANGES[name]
    tenants.acme.add_registry("ghcr.io")
    forget(conn)
    with conn.transaction(force_rollback=True):
        change(tenants.acme)
    assert entries(conn, tenants.acme.organization_id) == []

    target_id = change(tenants.acme)

    recorded = entries(conn, tenants.acme.organization_id)
    assert [(e.actor, e.action, e.target, e.ip) for e in reversed(recorded)] == [
        (CALLER.name, action.value, f"{kind}/{target_id}", CALLER.ip) for action in actions
    ]
    assert entries(conn, tenants.globex.organization_id) == []


@pytest.mark.parametrize(
    "name", [name for name in CHANGES if name.startswith(("revoked", "other", "susp", "name"))]
)
def test_change_made_again_is_not_recorded_again(
    conn: Connection, tenants: Tenants, name: str
) -> None:
    change, _, _ = CHANGES[name]
    tenants.acme.add_registry("ghcr.io")
    change(tenants.acme)
    forget(conn)
    change(tenants.acme)
    assert entries(conn, tenants.acme.organization_id) == []


def test_user_set_back_to_active_is_recorded(conn: Connection, tenants: Tenants) -> None:
    set_user(tenants.acme, status=UserStatus.SUSPENDED)
    forget(conn)
    set_user(tenants.acme, status=UserStatus.ACTIVE)
    [entry] = entries(conn, tenants.acme.organization_id)
    assert (entry.action, entry.target) == ("member.activated", f"user/{tenants.acme.user_id}")


TABLES = ["organizations", "users", "api_keys", "personal_access_tokens", "registries"]


@pytest.fixture
def closed_log(conn: Connection) -> Iterator[None]:
    """Reject every new entry."""
    conn.execute("ALTER TABLE audit_log ADD CONSTRAINT closed CHECK (false) NOT VALID")
    yield
    conn.execute("ALTER TABLE audit_log DROP CONSTRAINT closed")


def stored_rows(conn: Connection) -> list[list[str]]:
    """Return the rows of all tables whose changes are recorded, as text."""
    return [
        [row for (row,) in conn.execute(f"SELECT {table}::text FROM {table} ORDER BY 1".encode())]
        for table in TABLES
    ]


@pytest.mark.parametrize(
    "name",
    [name for name, (_, _, actions) in CHANGES.items() if actions and "of a key" not in name],
)
def test_change_that_cannot_be_recorded_is_not_made(
    conn: Connection, tenants: Tenants, closed_log: None, name: str
) -> None:
    tenants.acme.add_registry("ghcr.io")
    before = stored_rows(conn)
    with pytest.raises(CheckViolation, match="closed"):
        CHANGES[name][0](tenants.acme)
    assert stored_rows(conn) == before


def test_organization_that_cannot_be_recorded_is_not_created(
    conn: Connection, closed_log: None
) -> None:
    with pytest.raises(CheckViolation, match="closed"):
        organizations.create_organization(conn, "new", actor=OPERATOR)
    assert stored_rows(conn) == [[]] * len(TABLES)


def test_new_organization_is_recorded_in_its_own_log(conn: Connection) -> None:
    organization_id = organizations.create_organization(conn, "new", actor=OPERATOR)
    [entry] = entries(conn, organization_id)
    assert (entry.actor, entry.action, entry.target) == (
        "cli:operator",
        "organization.created",
        f"organization/{organization_id}",
    )


def test_rejected_change_records_nothing(conn: Connection, tenants: Tenants) -> None:
    acme = tenants.acme
    forget(conn)
    with pytest.raises(Conflict):
        organizations.create_organization(conn, "globex", actor=CALLER)
    with pytest.raises(Conflict):
        add_user(acme, tenants.globex.email)
    with pytest.raises(NotFound):
        organizations.set_user(conn, "nobody@acme.test", actor=CALLER, role=Role.CI)
    with pytest.raises(NotFound):
        add_token(acme, "nobody@acme.test")
    with pytest.raises(NotFound):
        principals.revoke_api_key(conn, "key-unknown", actor=CALLER)
    with pytest.raises(NotFound):
        principals.revoke_access_token(conn, "pat-unknown", actor=CALLER)
    assert conn.execute("SELECT count(*) FROM audit_log").fetchall() == [(0,)]


def test_concurrent_revocations_are_recorded_once(
    conn: Connection, config: Config, tenants: Tenants
) -> None:
    """The second transaction waits for the first and then finds the key revoked."""
    acme = tenants.acme
    forget(conn)
    with connect(config) as other, ThreadPoolExecutor(1) as pool:
        with conn.transaction():
            revoke_key(acme)
            second = pool.submit(
                principals.revoke_api_key, other, acme.key_id, actor=Actor("cli:second")
            )
            wait_until(lambda: is_waiting(config, other))
        second.result(timeout=10)
    assert [e.actor for e in entries(conn, acme.organization_id)] == [CALLER.name]


def is_waiting(config: Config, waiting: Connection) -> bool:
    """Return whether a connection waits for a lock."""
    query = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s"
    with connect(config) as observer:
        return observer.execute(query, [waiting.info.backend_pid]).fetchall() == [(True,)]
