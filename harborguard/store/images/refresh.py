"""Recompute the summary columns of image rows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from harborguard.store.connection import Connection
from harborguard.store.counters import ChangedImage, change_counters
from harborguard.store.statements import STATEMENTS


def refresh_images(
    conn: Connection,
    organization_id: str,
    image_ids: Sequence[str],
    *,
    added: Mapping[str, str] | None = None,
    touched: Iterable[str] = (),
) -> list[str]:
    """Recompute the rows of images from their tags and scans; return the ids that changed.

    Call it last in a transaction that holds the images' row locks: it also changes the counters and
    increases the inventory version. `added` has the ids of the images that this transaction
    created, each with its registry's id. The versions of the registries in `touched` increase
    even if no row changed: a new name of a registry changes what the filter `registry` matches.
    """
    added = added or {}
    parameters = {"organization_id": organization_id, "image_ids": list(image_ids)}
    changed = conn.execute(STATEMENTS["refresh_images"], parameters).fetchall()
    # A new image counts as one without a score; the loop moves it to its score. A change of 0 only
    # increases the registry's version.
    changes = Counter[tuple[str, int | None]]((registry_id, None) for registry_id in added.values())
    changes.update(dict.fromkeys(((registry_id, None) for registry_id in touched), 0))
    for _, registry_id, score_before, score_after, _ in changed:
        changes[registry_id, score_before] -= 1
        changes[registry_id, score_after] += 1
    if changes:
        # A new image has changed, even if its columns still have their defaults.
        registry_ids = {**added, **{image_id: registry_id for image_id, registry_id, *_ in changed}}
        change_counters(
            conn,
            organization_id,
            changes,
            images=len(added),
            changed=[ChangedImage(*each) for each in registry_ids.items()],
            newest_scan_at=max((row[4] for row in changed if row[4]), default=None),
        )
    return [row[0] for row in changed]
