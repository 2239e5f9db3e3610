"""Create, find, lock and delete image rows."""

from collections import Counter
from collections.abc import Sequence

from harborguard.errors import NotFound
from harborguard.model import Scope
from harborguard.store.connection import Connection
from harborguard.store.counters import ChangedImage, change_counters
from harborguard.store.statements import STATEMENTS

_FORGOTTEN_AT_ONCE = 1000


def ensure_image(
    conn: Connection, organization_id: str, registry_id: str, name: str
) -> tuple[str, bool]:
    """Find or create an image and lock its row; return its id, and whether it is new."""
    key = {"organization_id": organization_id, "name": name}
    while True:
        added = conn.execute(STATEMENTS["add_image"], {**key, "registry_id": registry_id})
        if image_id := lock_image(conn, organization_id, name):
            return image_id, added.rowcount == 1
        # Another transaction deleted the image between the two statements.


def lock_image(conn: Connection, organization_id: str, name: str) -> str | None:
    """Lock an image's row until the transaction ends; return its id, or None if it is missing."""
    key = {"organization_id": organization_id, "name": name}
    row = conn.execute(STATEMENTS["lock_image"], key).fetchone()
    return row[0] if row else None


def get_image_id(conn: Connection, organization_id: str, id_or_name: str) -> str:
    """Return the id of an image by id or name; raise NotFound if it does not exist."""
    key = {"organization_id": organization_id, "id_or_name": id_or_name}
    row = conn.execute(STATEMENTS["find_image"], key).fetchone()
    if row is None:
        raise NotFound(
            f"The image {id_or_name!r} does not exist. "
            "Name it by its id, or as in the list, without a tag: ghcr.io/acme/api"
        )
    return row[0]


def list_image_ids(conn: Connection, scope: Scope, *, after: str, limit: int) -> list[str]:
    """Return the ids of some images of a scope, in order, from the first one after an id."""
    parameters = {
        "organization_id": scope.organization_id,
        "registry_id": scope.registry_id,
        "after": after,
        "limit": limit,
    }
    return [row[0] for row in conn.execute(STATEMENTS["list_image_ids"], parameters)]


def lock_images(conn: Connection, scope: Scope, image_ids: Sequence[str]) -> list[str]:
    """Lock images of a scope for their deletion; return the ids of those that exist."""
    parameters = {
        "organization_id": scope.organization_id,
        "registry_id": scope.registry_id,
        "image_ids": list(image_ids),
    }
    return [row[0] for row in conn.execute(STATEMENTS["lock_images"], parameters)]


def delete_images(conn: Connection, organization_id: str, image_ids: Sequence[str]) -> None:
    """Delete images with their tags, scans and findings; the caller holds the rows' locks.

    Call it last in a transaction: it also changes the counters and increases the versions.
    """
    parameters = {"organization_id": organization_id, "image_ids": list(image_ids)}
    sets = conn.execute(STATEMENTS["delete_finding_sets"], parameters).fetchall()
    findings = {"organization_id": organization_id, "set_ids": [row[0] for row in sets]}
    conn.execute(STATEMENTS["delete_findings"], findings)
    deleted = conn.execute(STATEMENTS["delete_images"], parameters).fetchall()
    if deleted:
        changes = Counter[tuple[str, int | None]]()
        changes.subtract((registry_id, risk_score) for _, _, registry_id, risk_score in deleted)
        changed = [
            ChangedImage(image_id, registry_id, name) for image_id, name, registry_id, _ in deleted
        ]
        change_counters(conn, organization_id, changes, images=-len(deleted), changed=changed)
        # So that deletions do not accumulate where `harborguard prune` never runs.
        forget_deletions(conn, organization_id)


def forget_deletions(conn: Connection, organization_id: str) -> bool:
    """Forget old deletions (contract 8.14); return whether there may be more of them.

    The caller holds the lock of the inventory row.
    """
    parameters = {"organization_id": organization_id, "limit": _FORGOTTEN_AT_ONCE}
    [(forgotten,)] = conn.execute(STATEMENTS["forget_deletions"], parameters).fetchall()
    return forgotten == _FORGOTTEN_AT_ONCE
