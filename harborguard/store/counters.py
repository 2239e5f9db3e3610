"""Counters of images, and their comparison with the images."""

from collections.abc import Mapping
from typing import NamedTuple

from harborguard.store.connection import Connection
from harborguard.store.statements import STATEMENTS

# The change in the number of images, by registry id and risk score (None: never scanned).
Changes = Mapping[tuple[str, int | None], int]


class CounterDrift(NamedTuple):
    """A counter that differs from the number of images.

    It belongs to a registry and a risk score (None: never scanned); without a registry, to all
    images.
    """

    registry_id: str | None
    risk_score: int | None
    stored: int
    counted: int


def change_counters(
    conn: Connection, organization_id: str, changes: Changes, *, images: int
) -> None:
    """Move the counters and the inventory version; call it last in a transaction.

    `images` is the number of images that the transaction created.
    """
    moved = [(*key, n) for key, n in changes.items() if n]
    parameters = {
        "organization_id": organization_id,
        "images": images,
        "registry_ids": [registry_id for registry_id, _, _ in moved],
        "risk_scores": [risk_score for _, risk_score, _ in moved],
        "changes": [n for _, _, n in moved],
    }
    conn.execute(STATEMENTS["change_counters"], parameters)


def find_counter_drift(conn: Connection, organization_id: str) -> list[CounterDrift]:
    """Return the counters of an organization that differ from its images."""
    rows = conn.execute(STATEMENTS["find_counter_drift"], {"organization_id": organization_id})
    return [CounterDrift(*row) for row in rows]


def reset_counters(conn: Connection, organization_id: str) -> None:
    """Set an organization's counters by counting its images, while scans may be recorded."""
    with conn.transaction():
        conn.execute(STATEMENTS["lock_inventory"], {"organization_id": organization_id})
        conn.execute(STATEMENTS["reset_counters"], {"organization_id": organization_id})
