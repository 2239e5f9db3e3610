"""Delete an image, a scan, a registry or an organization.

Registries and organizations can have many images. These are deleted in batches, each in a
separate transaction, so that readers and other writers do not wait for long. A deletion that was
interrupted is continued by running it again.
"""

from collections.abc import Iterator
from typing import NamedTuple

from psycopg import errors as sqlstate

from harborguard.errors import NotFound, StoreUnavailable
from harborguard.model import Action, Actor, Scope
from harborguard.store.audit import record_action
from harborguard.store.connection import Connection
from harborguard.store.images.refresh import refresh_images
from harborguard.store.images.rows import delete_images, list_image_ids, lock_images
from harborguard.store.scans import delete_unused_findings
from harborguard.store.statements import STATEMENTS

MAX_IMAGES = 200  # images in one transaction
_ATTEMPTS = 20
# A row that refers to the deleted one was written meanwhile, or two transactions wait for each
# other.
_DISTURBED = (sqlstate.ForeignKeyViolation, sqlstate.DeadlockDetected)


def delete_image(conn: Connection, scope: Scope, image_id: str, *, actor: Actor) -> None:
    """Delete an image with its tags, scans and findings (contract 8.10).

    Raise NotFound if it is missing.
    """
    with conn.transaction():
        # PostgreSQL cannot store NUL.
        if "\0" in image_id or not lock_images(conn, scope, [image_id]):
            raise NotFound("Image not found.")
        record_action(conn, scope.organization_id, actor, Action.IMAGE_DELETED, f"image/{image_id}")
        delete_images(conn, scope.organization_id, [image_id])


def delete_scan(conn: Connection, scope: Scope, scan_id: str, *, actor: Actor) -> None:
    """Delete a scan with its findings and recompute the image's row; raise NotFound if missing.

    Its observation of the tag is deleted too, unless a sync or another scan made the same one. The
    image stays, even without any scan and tag (contract 8.11).
    """
    key = {"organization_id": scope.organization_id, "scan_id": scan_id}
    with conn.transaction():
        image_id = _find_scan_image(conn, scope, scan_id)
        if image_id is None or not lock_images(conn, scope, [image_id]):
            raise NotFound("Scan not found.")
        key["image_id"] = image_id
        row = conn.execute(STATEMENTS["delete_scan"], key).fetchone()
        if row is None:  # deleted by another transaction before the lock
            raise NotFound("Scan not found.")
        tag, digest, is_finished = row
        observation = {"tag": tag, "digest": digest, "is_confirmed": is_finished}
        conn.execute(STATEMENTS["delete_unobserved_tag"], {**key, **observation})
        removed = conn.execute(STATEMENTS["remove_current_scan"], key).fetchall()
        conn.execute(STATEMENTS["restore_current_scans"], {**key, "tag_key": tag or ""})
        delete_unused_findings(conn, key, {set_id for (set_id,) in removed} - {None})
        record_action(conn, scope.organization_id, actor, Action.SCAN_DELETED, f"scan/{scan_id}")
        refresh_images(conn, scope.organization_id, [key["image_id"]])


def remove_registry(
    conn: Connection, organization_id: str, registry_id: str, *, actor: Actor
) -> Iterator[int]:
    """Delete a registry with its images and the API keys that are limited to it.

    Yield the number of deleted images after each batch. Raise StoreUnavailable if the registry is
    written to all the time; the registry then stays, without the images that were deleted.
    """
    key = {"organization_id": organization_id, "registry_id": registry_id}
    for _ in range(_ATTEMPTS):
        yield from _delete_in_batches(conn, Scope(organization_id, registry_id))
        try:
            with conn.transaction():
                conn.execute(STATEMENTS["lock_registry_for_deletion"], key)
                conn.execute(STATEMENTS["lock_inventory"], key)
                conn.execute(STATEMENTS["delete_registry_counters"], key)
                conn.execute(STATEMENTS["delete_registry_keys"], key)
                conn.execute(STATEMENTS["delete_registry"], key)
                target = f"registry/{registry_id}"
                record_action(conn, organization_id, actor, Action.REGISTRY_REMOVED, target)
        except _DISTURBED:
            continue
        return
    raise StoreUnavailable("The registry is written to; stop its scans and syncs, and try again.")


class DeletionCounts(NamedTuple):
    """What a deletion will delete: numbers of images, users and API keys."""

    images: int
    users: int
    keys: int


def count_registry(conn: Connection, organization_id: str, registry_id: str) -> DeletionCounts:
    """Return what `remove_registry` will delete; the number of images is that of the counters."""
    key = {"organization_id": organization_id, "registry_id": registry_id}
    [(images, keys)] = conn.execute(STATEMENTS["count_registry"], key).fetchall()
    return DeletionCounts(images, 0, keys)


def count_organization(conn: Connection, organization_id: str) -> DeletionCounts:
    """Return what a deletion will delete; the number of images is that of the counters."""
    key = {"organization_id": organization_id}
    [counts] = conn.execute(STATEMENTS["count_organization"], key).fetchall()
    return DeletionCounts(*counts)


def begin_organization_deletion(conn: Connection, organization_id: str) -> None:
    """Delete the users and credentials of an organization, and mark it.

    Commands other than `org list` and `org delete` then raise Conflict.
    """
    key = {"organization_id": organization_id}
    with conn.transaction():
        conn.execute(STATEMENTS["mark_organization_deleted"], key)
        conn.execute(STATEMENTS["delete_organization_credentials"], key)


def delete_organization(conn: Connection, organization_id: str) -> Iterator[int]:
    """Delete an organization after `begin_organization_deletion`; nothing of it remains.

    Yield the number of deleted images after each batch. Raise StoreUnavailable if the organization
    is written to all the time.
    """
    key = {"organization_id": organization_id}
    for _ in range(_ATTEMPTS):
        yield from _delete_in_batches(conn, Scope(organization_id))
        try:
            with conn.transaction():
                conn.execute(STATEMENTS["delete_organization_credentials"], key)
                conn.execute(STATEMENTS["delete_organization_rows"], key)
                conn.execute(STATEMENTS["delete_organization"], key)
        except _DISTURBED:
            continue
        return
    raise StoreUnavailable("The organization is written to; stop its scans, and try again.")


def _find_scan_image(conn: Connection, scope: Scope, scan_id: str) -> str | None:
    parameters = {
        "organization_id": scope.organization_id,
        "registry_id": scope.registry_id,
        "scan_id": scan_id,
    }
    if "\0" in scan_id:  # PostgreSQL cannot store it
        return None
    row = conn.execute(STATEMENTS["find_scan_image"], parameters).fetchone()
    return row[0] if row else None


def _delete_in_batches(conn: Connection, scope: Scope) -> Iterator[int]:
    after = ""
    while found := list_image_ids(conn, scope, after=after, limit=MAX_IMAGES):
        with conn.transaction():
            image_ids = lock_images(conn, scope, found)
            delete_images(conn, scope.organization_id, image_ids)
        yield len(image_ids)
        after = found[-1]
