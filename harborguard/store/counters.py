"""Counters of images: change them, compare them with the images, and repair them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from harborguard.store.connection import Connection
from harborguard.store.statements import STATEMENTS

# The change in the number of images, by registry id and risk score (None: never scanned).
Changes = Mapping[tuple[str, int | None], int]


class ChangedImage(NamedTuple):
    """An image that a transaction changed. Its name is given only if it was deleted."""

    id: str
    registry_id: str
    deleted_name: str | None = None


class InventoryMetric(NamedTuple):
    """A value of an organization.

    The name `images` has a grade as its label, or `none` for images that were never scanned.
    `newest_scan` has an empty label, and `registry_sync` the host of a registry. The values of both
    are Unix times in seconds.
    """

    name: str
    organization_id: str
    label: str
    value: float


class IncorrectCounter(NamedTuple):
    """A counter that differs from the number of images.

    It counts the images of a registry with one risk score (None: never scanned). If `registry_id`
    is None, it counts all images of the organization.
    """

    registry_id: str | None
    risk_score: int | None
    stored: int
    counted: int


def change_counters(
    conn: Connection,
    organization_id: str,
    changes: Changes,
    *,
    images: int,
    changed: Sequence[ChangedImage] = (),
    newest_scan_at: datetime | None = None,
) -> None:
    """Add to the counters and increase the versions; call it last in a transaction.

    The version of the inventory increases, and that of each registry that is a key of `changes`,
    even if its numbers stay the same. `images` is the change in the number of images. The new
    version of the inventory becomes that of the `changed` images (contract 8.14). `newest_scan_at`
    is the newest `lastScannedAt` of them.
    """
    nonzero = [(*key, n) for key, n in changes.items() if n]
    parameters = {
        "organization_id": organization_id,
        "images": images,
        "changed_registry_ids": sorted({registry_id for registry_id, _ in changes}),
        "registry_ids": [registry_id for registry_id, _, _ in nonzero],
        "risk_scores": [risk_score for _, risk_score, _ in nonzero],
        "changes": [n for _, _, n in nonzero],
        "image_ids": [image.id for image in changed],
        "image_registry_ids": [image.registry_id for image in changed],
        "deleted_names": [image.deleted_name for image in changed],
        "newest_scan_at": newest_scan_at,
    }
    conn.execute(STATEMENTS["change_counters"], parameters)


def read_inventory_metrics(conn: Connection) -> Sequence[InventoryMetric]:
    """Return the metrics of all organizations, which only the operator may see."""
    rows = conn.execute(STATEMENTS["read_inventory_metrics"])
    return [InventoryMetric(*row) for row in rows]


def find_image_count(conn: Connection, organization_id: str) -> int:
    """Return the number of images of an organization, from the counters."""
    key = {"organization_id": organization_id}
    row = conn.execute(STATEMENTS["find_image_count"], key).fetchone()
    return row[0] if row else 0


def find_incorrect_counters(conn: Connection, organization_id: str) -> list[IncorrectCounter]:
    """Return the counters of an organization that differ from its images."""
    rows = conn.execute(STATEMENTS["find_incorrect_counters"], {"organization_id": organization_id})
    return [IncorrectCounter(*row) for row in rows]


def repair_counters(conn: Connection, organization_id: str) -> None:
    """Count an organization's images and store the numbers; scans may be recorded concurrently."""
    with conn.transaction():
        conn.execute(STATEMENTS["lock_inventory"], {"organization_id": organization_id})
        conn.execute(STATEMENTS["repair_counters"], {"organization_id": organization_id})
