"""Every write that changes what a list shows or matches increases the version of its scope.

The version of a scope that is limited to a registry increases with changes of that registry alone
(contract 1.6).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from harborguard.auth.credentials import make_secret
from harborguard.listing import (
    CountedSeverity,
    ImageCriteria,
    Page,
    RegistryCount,
    ScanAge,
    Sort,
    SortKey,
)
from harborguard.model import (
    Action,
    ObservedRepository,
    ObservedTag,
    Principal,
    PrincipalKind,
    Role,
    Scope,
    UserStatus,
)
from harborguard.store import deletion, organizations, principals, registries
from harborguard.store.audit import record_action
from harborguard.store.connection import Connection
from harborguard.store.counters import repair_counters
from harborguard.store.images.list import find_inventory_version, list_images
from harborguard.store.images.rows import get_image_id
from harborguard.store.images.summary import count_images
from harborguard.store.prune import Prune, PrunePolicy
from harborguard.store.repositories import record_repository
from harborguard.store.statements import STATEMENTS
from tests.support import reports
from tests.support.recording import DAY, ingest
from tests.support.reports import SCANNED_AT, manifest
from tests.support.tenants import OPERATOR, Tenant, Tenants

API = "ghcr.io/acme/api"
BUILT_AT = SCANNED_AT - 9 * DAY
WRITE = re.compile(r"^\s*(INSERT INTO|UPDATE|DELETE FROM|COPY) ", re.MULTILINE)
WRITES = {name for name, text in STATEMENTS.items() if WRITE.search(text)}
# COPY is not executed like other statements, so it cannot be observed here. It stores findings,
# which no list of images shows.
UNOBSERVED = {"copy_findings", "forget_deletions"}
ALL, GHCR, QUAY = "organization", "ghcr.io", "quay.io"


@dataclass
class Inventory:
    """An organization with an image in each of two registries, and the scopes that read it."""

    tenant: Tenant

    def __post_init__(self) -> None:
        for host in (GHCR, QUAY):
            self.upload(reports.envelope(f"{host}/acme/api:1.0", (0, 1), scan_id=host))
        self.sync(ObservedTag("0.9", None, BUILT_AT), days=0)

    @property
    def conn(self) -> Connection:
        return self.tenant.conn

    @property
    def id(self) -> str:
        return self.tenant.organization_id

    @property
    def ghcr(self) -> str:
        return registries.get_registry(self.conn, self.id, GHCR)

    @property
    def scopes(self) -> dict[str, Scope]:
        limited = {
            host: Scope(self.id, registries.get_registry(self.conn, self.id, host))
            for host in (GHCR, QUAY)
        }
        return {ALL: Scope(self.id), **limited}

    def upload(self, body: bytes) -> None:
        ingest(self.conn, self.id, body)

    def image_id(self, name: str) -> str:
        return get_image_id(self.conn, self.id, name)

    def scan_id(self, name: str) -> str:
        query = "SELECT scan_id FROM images WHERE organization_id = %s AND name = %s"
        [(scan_id,)] = self.conn.execute(query, [self.id, name]).fetchall()
        return scan_id

    def sync(self, *tags: ObservedTag, missing: tuple[str, ...] = (), days: int = 1) -> None:
        """Record the tags of an image as a registry sync of a later day observed them."""
        repository = ObservedRepository(API, tags, SCANNED_AT + days * DAY, missing)
        record_repository(self.conn, self.id, self.ghcr, repository)

    def set_registry(self, **changes: str) -> None:
        registries.upsert_registry(
            self.conn, self.id, GHCR, actor=OPERATOR, default_provider="github", **changes
        )


@dataclass(frozen=True)
class Shown:
    """What a scope can see: its version, lists for all kinds of filters, and the summary."""

    version: int
    lists: list[tuple[list[object], int]]
    summary: list[RegistryCount]


CRITERIA = [
    *[ImageCriteria(sort=Sort(key, descending=False)) for key in SortKey],
    *[ImageCriteria(registry=name) for name in ("GHCR.io", "quay.io", "Mirror", "unknown.test")],
    ImageCriteria(risk_score=26),
    ImageCriteria(search="acme/web"),
    *[ImageCriteria(tag=name) for name in ("0.8", "0.9", "2.0")],
    ImageCriteria(cve_id="cve-2026-1000", package="OpenSSL", is_fixable=True),
    ImageCriteria(severities=(CountedSeverity.CRITICAL,)),
    ImageCriteria(scanned=ScanAge.NEVER),
    ImageCriteria(scanned_after=SCANNED_AT + timedelta(minutes=1)),
]


def show(conn: Connection, scope: Scope) -> Shown:
    """Read the lists of a scope, with and without counters; all have the scope's version."""
    version = find_inventory_version(conn, scope)
    lists = []
    for criteria in CRITERIA:
        for use_counters in (True, False):
            listing = list_images(conn, scope, criteria, Page(), use_counters=use_counters)
            assert listing.version == version
            lists.append((list(listing.items), listing.total))
    return Shown(version, lists, count_images(conn, scope, ImageCriteria()))


@dataclass(frozen=True)
class Write:
    """A write of the service, the scopes whose versions it increases, and its statements."""

    run: Callable[[Inventory], object]
    increased: tuple[str, ...]
    statements: set[str]


BOTH = (ALL, GHCR)
NONE: tuple[str, ...] = ()
UPLOAD = {
    "add_registry",
    "add_image",
    "insert_scan",
    "keep_findings",
    "observe_tags",
    "refresh_images",
}
COUNTED = {"change_counters"}


def add_token(inventory: Inventory) -> object:
    secret = make_secret(PrincipalKind.ACCESS_TOKEN)
    return principals.create_access_token(
        inventory.conn,
        secret,
        actor=OPERATOR,
        name="t",
        email=inventory.tenant.email,
        expires_at=None,
    )


def record_uses(inventory: Inventory) -> None:
    for kind, principal_id in (
        (PrincipalKind.API_KEY, inventory.tenant.key_id),
        (PrincipalKind.ACCESS_TOKEN, inventory.tenant.token_id),
    ):
        principal = Principal(kind, principal_id, Scope(inventory.id), Role.VIEWER)
        principals.record_use(inventory.conn, principal)


def miscount(inventory: Inventory) -> None:
    """Make the counters of one registry wrong, and repair them."""
    query = "UPDATE image_counts SET n = 9 WHERE organization_id = %s AND registry_id = %s"
    inventory.conn.execute(query, [inventory.id, inventory.ghcr])
    repair_counters(inventory.conn, inventory.id)


def record_same_repository(inventory: Inventory) -> None:
    inventory.sync(ObservedTag("1.0", None), days=0)


def prune(inventory: Inventory, policy: PrunePolicy) -> None:
    assert sum(Prune(inventory.conn, inventory.id, policy, actor=OPERATOR).run()) in {0, 2}


def prune_older_scan(inventory: Inventory) -> None:
    inventory.upload(reports.envelope(f"{API}:1.0", (1,), finished_at=SCANNED_AT - DAY))
    prune(inventory, PrunePolicy(keep_scans=1))


def prune_older_observation(inventory: Inventory) -> None:
    inventory.sync(ObservedTag("1.0", manifest("b")), days=-1)
    prune(inventory, PrunePolicy(unseen_since=SCANNED_AT))


def delete_another_organization(inventory: Inventory) -> None:
    """Delete an organization that is not compared."""
    conn = inventory.conn
    organization_id = organizations.create_organization(conn, "another", actor=OPERATOR)
    ingest(conn, organization_id, reports.envelope(f"{API}:1.0", (0, 1)))
    deletion.begin_organization_deletion(conn, organization_id)
    assert sum(deletion.delete_organization(conn, organization_id)) == 1


LATER = SCANNED_AT + timedelta(hours=1)
FUTURE = datetime.now(UTC) + DAY
WRITES_AND_EFFECTS = {
    # Uploads.
    "new score": Write(
        lambda i: i.upload(reports.envelope(f"{API}:1.0", (1,), finished_at=LATER)),
        BOTH,
        UPLOAD | COUNTED | {"remove_superseded_scans", "delete_unused_findings"},
    ),
    "new time alone": Write(
        lambda i: i.upload(reports.envelope(f"{API}:1.0", (0, 1), finished_at=LATER)),
        BOTH,
        UPLOAD | COUNTED,
    ),
    "another scanner's score": Write(
        lambda i: i.upload(
            reports.grype(f"{API}:1.0", (1,), finished_at=SCANNED_AT - timedelta(hours=1))
        ),
        BOTH,
        UPLOAD | COUNTED,
    ),
    "failed scan of a new tag": Write(
        lambda i: i.upload(reports.envelope(f"{API}:9", status="FAILED")),
        BOTH,
        UPLOAD | COUNTED,
    ),
    "new image": Write(
        lambda i: i.upload(reports.trivy("ghcr.io/acme/web:1")), BOTH, UPLOAD | COUNTED
    ),
    "new registry": Write(
        lambda i: i.upload(reports.trivy("unknown.test/acme/web:1")), (ALL,), UPLOAD | COUNTED
    ),
    "older scan": Write(
        lambda i: i.upload(reports.envelope(f"{API}:1.0", (1,), finished_at=SCANNED_AT - DAY)),
        NONE,
        UPLOAD,
    ),
    "replay": Write(
        lambda i: i.upload(reports.envelope(f"{API}:1.0", (0, 1), scan_id=GHCR)),
        NONE,
        {"insert_scan"},
    ),
    # Registry syncs.
    "new tag": Write(
        lambda i: i.sync(ObservedTag("1.0", None), ObservedTag("2.0", manifest("b"))),
        BOTH,
        {"observe_tags", "remove_tags", "refresh_images", *COUNTED},
    ),
    "replaced tag that is not the latest": Write(
        lambda i: i.sync(ObservedTag("0.8", None, BUILT_AT), missing=("0.9",), days=2),
        BOTH,
        {"observe_tags", "remove_tags", *COUNTED},
    ),
    "removed tags": Write(lambda i: i.sync(missing=("1.0",)), BOTH, {"remove_tags", *COUNTED}),
    "same tags": Write(record_same_repository, NONE, {"observe_tags", "remove_tags"}),
    "time of a sync": Write(
        lambda i: registries.record_sync(i.conn, i.id, i.ghcr, LATER),
        NONE,
        {"record_registry_sync"},
    ),
    # Registries.
    "registry's name": Write(
        lambda i: i.set_registry(name="Mirror"), BOTH, {"add_registry", "set_registry", *COUNTED}
    ),
    "registry's name in another case": Write(
        lambda i: i.set_registry(name="GHCR.io"), BOTH, {"set_registry", *COUNTED}
    ),
    "registry's provider": Write(
        lambda i: i.set_registry(provider="harbor"), NONE, {"set_registry"}
    ),
    "registry without images": Write(
        lambda i: registries.upsert_registry(
            i.conn, i.id, "unknown.test", actor=OPERATOR, default_provider="generic"
        ),
        NONE,
        {"add_registry", "set_registry"},
    ),
    # Pruning.
    "pruned images": Write(
        lambda i: prune(i, PrunePolicy(unseen_since=FUTURE)),
        (ALL, GHCR, QUAY),
        {"record_action", "delete_images", *COUNTED},
    ),
    "pruned scans": Write(prune_older_scan, NONE, UPLOAD | {"delete_old_scans"}),
    "pruned observations": Write(
        prune_older_observation, NONE, {"observe_tags", "delete_old_observations"}
    ),
    "pruned audit entries": Write(
        lambda i: prune(i, PrunePolicy(audit_since=FUTURE)), NONE, {"delete_old_audit_entries"}
    ),
    # Deletions.
    "deleted image": Write(
        lambda i: deletion.delete_image(i.conn, Scope(i.id), i.image_id(API), actor=OPERATOR),
        BOTH,
        {"delete_finding_sets", "delete_findings", "delete_images", "record_action", *COUNTED},
    ),
    "deleted scan": Write(
        lambda i: deletion.delete_scan(i.conn, Scope(i.id), i.scan_id(API), actor=OPERATOR),
        BOTH,
        {
            "delete_scan",
            "delete_unobserved_tag",
            "remove_current_scan",
            "restore_current_scans",
            "delete_unused_findings",
            "refresh_images",
            "record_action",
            *COUNTED,
        },
    ),
    "removed registry": Write(
        lambda i: list(deletion.remove_registry(i.conn, i.id, i.ghcr, actor=OPERATOR)),
        (ALL,),
        {
            "delete_images",
            "delete_registry_counters",
            "delete_registry_keys",
            "delete_registry",
            "record_action",
            *COUNTED,
        },
    ),
    "deleted organization": Write(
        delete_another_organization,
        NONE,
        {
            "mark_organization_deleted",
            "delete_organization_credentials",
            "delete_organization_rows",
            "delete_organization",
        },
    ),
    # Counters.
    "repaired counters": Write(miscount, (ALL, GHCR, QUAY), {"repair_counters"}),
    # Organizations, users and credentials.
    "organization": Write(
        lambda i: organizations.create_organization(i.conn, "new", actor=OPERATOR),
        NONE,
        {"create_organization"},
    ),
    "user": Write(
        lambda i: organizations.add_user(
            i.conn, i.id, "new@acme.test", Role.VIEWER, actor=OPERATOR
        ),
        NONE,
        {"add_user"},
    ),
    "removed user": Write(
        lambda i: organizations.remove_user(i.conn, i.tenant.email, actor=OPERATOR),
        NONE,
        {"delete_user", "record_action"},
    ),
    "user's status": Write(
        lambda i: organizations.set_user(
            i.conn, i.tenant.email, actor=OPERATOR, status=UserStatus.SUSPENDED
        ),
        NONE,
        {"set_user"},
    ),
    "API key": Write(lambda i: i.tenant.add_key(), NONE, {"create_api_key"}),
    "access token": Write(add_token, NONE, {"create_access_token"}),
    "use of credentials": Write(
        record_uses, NONE, {"record_api_key_use", "record_access_token_use"}
    ),
    "revoked key": Write(
        lambda i: principals.revoke_api_key(i.conn, i.tenant.key_id, actor=OPERATOR),
        NONE,
        {"revoke_api_key"},
    ),
    "revoked token": Write(
        lambda i: principals.revoke_access_token(i.conn, i.tenant.token_id, actor=OPERATOR),
        NONE,
        {"revoke_access_token"},
    ),
    "entry of the audit log": Write(
        lambda i: record_action(i.conn, i.id, OPERATOR, Action.API_KEY_CREATED, "apikey/key-1"),
        NONE,
        {"record_action"},
    ),
}


@pytest.mark.parametrize("name", WRITES_AND_EFFECTS)
def test_write_increases_the_versions_of_the_scopes_that_can_see_it(
    tenants: Tenants, statements: list[str], name: str
) -> None:
    write = WRITES_AND_EFFECTS[name]
    inventory = Inventory(tenants.acme)
    theirs = Inventory(tenants.globex)
    scopes = {**inventory.scopes, "another organization": Scope(theirs.id)}
    before = {key: show(inventory.conn, scope) for key, scope in scopes.items()}
    statements.clear()

    write.run(inventory)

    executed = {key for key, text in STATEMENTS.items() if text in statements}
    assert write.statements <= executed
    after = {key: show(inventory.conn, scope) for key, scope in scopes.items()}
    increased = [key for key in scopes if after[key].version > before[key].version]
    assert increased == [key for key in scopes if key in write.increased]
    for key in scopes:
        is_removed = after[key].version == 0  # the registry, with the keys that are limited to it
        assert not is_removed or (name, key) == ("removed registry", GHCR)
        if key not in increased and not is_removed:
            assert after[key] == before[key]


def test_writes_of_this_module_are_all_statements_that_write() -> None:
    assert set().union(*(write.statements for write in WRITES_AND_EFFECTS.values())) == (
        WRITES - UNOBSERVED
    )


def test_every_kind_of_visible_change_is_made_by_a_write(tenants: Tenants) -> None:
    """Otherwise the comparison of lists before and after could not fail."""
    for name in ("new score", "new time alone", "new image", "new tag", "registry's name"):
        inventory = Inventory(tenants.acme)
        before = show(inventory.conn, Scope(inventory.id))
        with inventory.conn.transaction(force_rollback=True):
            WRITES_AND_EFFECTS[name].run(inventory)
            assert show(inventory.conn, Scope(inventory.id)).lists != before.lists, name
