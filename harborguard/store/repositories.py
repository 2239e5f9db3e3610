"""Record repositories as a registry sync observed them."""

from collections import defaultdict
from datetime import datetime

from harborguard.model import ObservedRepository, TagChanges
from harborguard.store.connection import Connection
from harborguard.store.images.refresh import refresh_images
from harborguard.store.statements import STATEMENTS
from harborguard.store.tags import observe_tags

BuildTimes = dict[str, datetime]


def list_build_times(
    conn: Connection, organization_id: str, registry_id: str
) -> dict[str, BuildTimes]:
    """Return the known build times of each image with tags, by image name and digest."""
    key = {"organization_id": organization_id, "registry_id": registry_id}
    found: dict[str, BuildTimes] = defaultdict(dict)
    for name, digest, built_at in conn.execute(STATEMENTS["list_registry_digests"], key):
        times = found[name]
        if digest is not None and built_at is not None:
            times[digest] = built_at
    return dict(found)


def record_repository(
    conn: Connection, organization_id: str, registry_id: str, observed: ObservedRepository
) -> TagChanges:
    """Replace an image's tags by those that its registry lists, and refresh the image's row.

    One transaction, which locks the image's row: scans of the image are recorded before or after
    it. The image is created if the repository has a tag. It stays if the repository has none.
    """
    key = {"organization_id": organization_id, "name": observed.name}
    with conn.transaction():
        added = {}
        if observed.tags:
            new = conn.execute(STATEMENTS["add_image"], {**key, "registry_id": registry_id})
            added = {registry_id: new.rowcount}
        row = conn.execute(STATEMENTS["lock_image"], key).fetchone()
        if row is None:
            return TagChanges()
        [image_id] = row
        changes = _replace_tags(conn, organization_id, image_id, observed)
        refresh_images(conn, organization_id, [image_id], added=added)
    return changes


def _replace_tags(
    conn: Connection, organization_id: str, image_id: str, observed: ObservedRepository
) -> TagChanges:
    key = {"organization_id": organization_id, "image_id": image_id}
    before = dict(conn.execute(STATEMENTS["list_current_tags"], key).fetchall())
    tags, observed_at = observed.tags, observed.observed_at
    observe_tags(conn, organization_id, image_id, tags, observed_at=observed_at)
    listed = {**key, "names": [tag.name for tag in tags], "observed_at": observed_at}
    removed = conn.execute(STATEMENTS["remove_other_tags"], listed).fetchall()
    return TagChanges(
        observed=len(tags),
        added=sum(tag.name not in before for tag in tags),
        moved=sum(tag.name in before and before[tag.name] != tag.digest for tag in tags),
        removed=len(set(removed)),
    )
