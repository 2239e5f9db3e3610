"""Registries, and what they show of their repositories."""

from collections import defaultdict
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from harborguard.errors import NotFound
from harborguard.model import ObservedRepository, ObservedTag, TagChanges
from harborguard.store.connection import Connection
from harborguard.store.scans import find_registry, refresh_image_summaries
from harborguard.store.statements import STATEMENTS

BuildTimes = dict[str, datetime]


def put_registry(
    conn: Connection,
    organization_id: str,
    host: str,
    *,
    usual_provider: str,
    name: str | None = None,
    provider: str | None = None,
) -> str:
    """Makes a registry or changes what is told of it; answers with its id."""
    parameters = {
        "organization_id": organization_id,
        "host": host,
        "name": name,
        "provider": provider,
        "usual_provider": usual_provider,
    }
    [registry_id] = conn.execute(STATEMENTS["put_registry"], parameters).fetchone() or [""]
    return registry_id


def get_registry(conn: Connection, organization_id: str, host: str) -> str:
    """The id of the organization's registry with a host; raises NotFound where there is none."""
    registry_id = find_registry(conn, organization_id, host)
    if registry_id is None:
        raise NotFound(f"there is no registry {host} yet; make it: harborguard registry add {host}")
    return registry_id


def list_registries(conn: Connection, organization_id: str) -> list[dict[str, Any]]:
    """An organization's registries by host."""
    cursor = conn.cursor(row_factory=dict_row)
    key = {"organization_id": organization_id}
    return cursor.execute(STATEMENTS["list_registries"], key).fetchall()


def list_build_times(
    conn: Connection, organization_id: str, registry_id: str
) -> dict[str, BuildTimes]:
    """The build times that are known, by digest, for every image of a registry that has a tag."""
    key = {"organization_id": organization_id, "registry_id": registry_id}
    found: dict[str, BuildTimes] = defaultdict(dict)
    for name, digest, built_at in conn.execute(STATEMENTS["list_registry_digests"], key):
        times = found[name]
        if digest is not None and built_at is not None:
            times[digest] = built_at
    return dict(found)


def record_repository(
    conn: Connection, organization_id: str, registry_id: str, seen: ObservedRepository
) -> TagChanges:
    """Makes an image's tags those that its registry shows, and its row say what it now should.

    All or nothing, like a scan, and in turn with the scans of the same image. The image is made
    where it is new and has a tag; it stays where it has none any more.
    """
    image = {"organization_id": organization_id, "name": seen.name}
    with conn.transaction():
        added = {}
        if seen.tags:
            new = conn.execute(STATEMENTS["add_image"], {**image, "registry_id": registry_id})
            added = {registry_id: new.rowcount}
        row = conn.execute(STATEMENTS["lock_image"], image).fetchone()
        if row is None:
            return TagChanges()
        changes = _replace_tags(conn, organization_id, row[0], seen)
        refresh_image_summaries(conn, organization_id, [row[0]], added=added)
    return changes


def note_sync(
    conn: Connection, organization_id: str, registry_id: str, synced_at: datetime
) -> None:
    """Notes that a registry was walked through to its end, beginning at a time."""
    key = {"organization_id": organization_id, "registry_id": registry_id}
    conn.execute(STATEMENTS["note_registry_sync"], {**key, "synced_at": synced_at})


def _replace_tags(
    conn: Connection, organization_id: str, image_id: str, seen: ObservedRepository
) -> TagChanges:
    key = {"organization_id": organization_id, "image_id": image_id}
    before = dict(conn.execute(STATEMENTS["list_current_tags"], key).fetchall())
    parameters = {**key, **_columns(seen.tags), "observed_at": seen.observed_at}
    conn.execute(STATEMENTS["observe_tags"], parameters)
    removed = conn.execute(STATEMENTS["remove_other_tags"], parameters).fetchall()
    return TagChanges(
        seen=len(seen.tags),
        new=sum(tag.name not in before for tag in seen.tags),
        moved=sum(tag.name in before and before[tag.name] != tag.digest for tag in seen.tags),
        gone=len(set(removed)),
    )


def _columns(tags: tuple[ObservedTag, ...]) -> dict[str, list[Any]]:
    return {
        "names": [tag.name for tag in tags],
        "digests": [tag.digest for tag in tags],
        "built_at": [tag.built_at for tag in tags],
    }
