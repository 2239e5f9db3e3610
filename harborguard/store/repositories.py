"""Record repositories as a registry sync observed them."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from harborguard.model import ObservedRepository, TagChanges
from harborguard.store.connection import Connection
from harborguard.store.images.refresh import refresh_images
from harborguard.store.images.rows import ensure_image, lock_image
from harborguard.store.statements import STATEMENTS
from harborguard.store.tags import observe_tags


@dataclass(frozen=True, slots=True)
class RecordedTags:
    """The recorded tags of an image, and the build times that are known, by digest."""

    names: set[str] = field(default_factory=set)
    build_times: dict[str, datetime] = field(default_factory=dict)


def list_recorded_tags(
    conn: Connection, organization_id: str, registry_id: str
) -> dict[str, RecordedTags]:
    """Return the tags of a registry's images by the image's name, without images that have none."""
    key = {"organization_id": organization_id, "registry_id": registry_id}
    found: dict[str, RecordedTags] = defaultdict(RecordedTags)
    for name, tag, digest, built_at in conn.execute(STATEMENTS["list_registry_tags"], key):
        recorded = found[name]
        recorded.names.add(tag)
        if digest is not None and built_at is not None:
            known = recorded.build_times.get(digest, built_at)
            recorded.build_times[digest] = max(known, built_at)
    return dict(found)


def record_repository(
    conn: Connection, organization_id: str, registry_id: str, observed: ObservedRepository
) -> TagChanges:
    """Record a repository's tags, remove those that are missing, and refresh the image's row.

    It is one transaction. It locks the image's row, so no scan of the image is recorded meanwhile.
    The image is created if the repository has a tag. It stays if the repository has none.
    """
    with conn.transaction():
        is_new = False
        if observed.tags:
            image_id, is_new = ensure_image(conn, organization_id, registry_id, observed.name)
        else:
            image_id = lock_image(conn, organization_id, observed.name)
        if image_id is None:
            return TagChanges()
        changes = _change_tags(conn, organization_id, image_id, observed)
        # A removed and an added tag can leave the row as it was, but a list can be filtered by tag.
        has_other_names = changes.added or changes.removed
        refresh_images(
            conn,
            organization_id,
            [image_id],
            added={image_id: registry_id} if is_new else {},
            touched=[registry_id] if has_other_names else [],
        )
    return changes


def _change_tags(
    conn: Connection, organization_id: str, image_id: str, observed: ObservedRepository
) -> TagChanges:
    key = {"organization_id": organization_id, "image_id": image_id}
    before = dict(conn.execute(STATEMENTS["list_current_tags"], key).fetchall())
    tags, observed_at = observed.tags, observed.observed_at
    observe_tags(conn, organization_id, image_id, tags, observed_at=observed_at, is_synced=True)
    missing = {**key, "names": list(observed.missing), "observed_at": observed_at}
    removed = conn.execute(STATEMENTS["remove_tags"], missing).fetchall()
    return TagChanges(
        observed=len(tags),
        added=sum(tag.name not in before for tag in tags),
        moved=sum(tag.name in before and before[tag.name] != tag.digest for tag in tags),
        removed=len(set(removed)),
    )
