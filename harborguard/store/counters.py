"""What is counted ahead: kept exact by the transactions that change images; and recounted."""

from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

from harborguard.store.connection import Connection
from harborguard.store.statements import STATEMENTS

# How many images more or fewer there are of a registry and a score (None: never scanned).
Changes = Mapping[tuple[str, int | None], int]


class Drift(NamedTuple):
    """A counter that is not what counting finds.

    It is of a registry and a score (None: never scanned), or of a day; neither means all images.
    """

    registry_id: str | None
    risk_score: int | None
    day: date | None
    kept: int
    counted: int


def change_counters(conn: Connection, organization_id: str, changes: Changes, images: int) -> None:
    """Moves counters and version, last in a transaction; `images` is how many it has made."""
    moved = [(*key, n) for key, n in changes.items() if n]
    parameters = {
        "organization_id": organization_id,
        "images": images,
        "registry_ids": [registry_id for registry_id, _, _ in moved],
        "risk_scores": [risk_score for _, risk_score, _ in moved],
        "changes": [n for _, _, n in moved],
    }
    conn.execute(STATEMENTS["change_counters"], parameters)


def find_drift(conn: Connection, organization_id: str) -> list[Drift]:
    """The counters of an organization that are wrong; empty is as it should be."""
    rows = conn.execute(STATEMENTS["find_counter_drift"], {"organization_id": organization_id})
    return [Drift(*row) for row in rows]


def reset_counters(conn: Connection, organization_id: str) -> None:
    """Sets an organization's counters to what its images say, beside whatever is being recorded."""
    with conn.transaction():
        conn.execute(STATEMENTS["lock_inventory"], {"organization_id": organization_id})
        conn.execute(STATEMENTS["reset_counters"], {"organization_id": organization_id})
