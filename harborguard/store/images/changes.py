"""The changes of a scope's images, in the order in which they were committed (contract 8.14)."""

from collections.abc import Sequence
from hashlib import sha256
from typing import LiteralString

from harborguard.errors import Gone
from harborguard.listing import ChangePosition, ChangesPage, DeletedImage, ImageSummary
from harborguard.model import Scope
from harborguard.store.connection import Connection
from harborguard.store.images.columns import IMAGE_COLUMNS
from harborguard.store.images.filters import REGISTRY_MATCHES, TENANT

_NEXT: LiteralString = """(version, image_id) > (%(version)s, %(image_id)s)
        ORDER BY version, image_id
        LIMIT %(limit)s"""
_COLUMNS: LiteralString = f"""scope.forgotten_version,
    scope.newest_version,
    scope.registry_ids,
    change.version,
    change.deleted_name,
    change.image_id,
    {IMAGE_COLUMNS}"""
# As in `query._with_columns`, only the primary key supports this subquery.
_IMAGE: LiteralString = f"""
LEFT JOIN LATERAL (
    SELECT *
    FROM images
    WHERE {TENANT} AND id >= change.image_id
    ORDER BY id
    LIMIT 1
) AS image ON image.id = change.image_id
ORDER BY change.version, change.image_id
"""
ALL_CHANGES: LiteralString = f"""
SELECT
    {_COLUMNS}
FROM (
    SELECT
        inventory.forgotten_version,
        (
            SELECT version
            FROM image_changes
            WHERE {TENANT}
            ORDER BY version DESC
            LIMIT 1
        ) AS newest_version,
        NULL::text[] AS registry_ids
    FROM inventories AS inventory
    WHERE inventory.organization_id = %(organization_id)s
) AS scope
LEFT JOIN LATERAL (
    SELECT version, image_id, deleted_name
    FROM image_changes
    WHERE {TENANT}
        AND {_NEXT}
) AS change ON true{_IMAGE}"""
# Each registry's changes are read from the index, so that many changes of others cost nothing.
REGISTRY_CHANGES: LiteralString = f"""
WITH selected AS MATERIALIZED (
    SELECT registry.id, registry.forgotten_version
    FROM registries AS registry
    WHERE registry.organization_id = %(organization_id)s
        AND (%(scope_registry_id)s::text IS NULL OR registry.id = %(scope_registry_id)s)
        AND (%(registry)s::text IS NULL OR {REGISTRY_MATCHES})
)
SELECT
    {_COLUMNS}
FROM (
    SELECT
        max(selected.forgotten_version) AS forgotten_version,
        max(newest.version) AS newest_version,
        array_agg(selected.id ORDER BY selected.id) AS registry_ids
    FROM selected
    LEFT JOIN LATERAL (
        SELECT version
        FROM image_changes
        WHERE {TENANT} AND registry_id = selected.id
        ORDER BY version DESC
        LIMIT 1
    ) AS newest ON true
) AS scope
LEFT JOIN LATERAL (
    SELECT found.*
    FROM selected
    CROSS JOIN LATERAL (
        SELECT version, image_id, deleted_name
        FROM image_changes
        WHERE {TENANT}
            AND registry_id = selected.id
            AND {_NEXT}
    ) AS found
    ORDER BY version, image_id
    LIMIT %(limit)s
) AS change ON true{_IMAGE}"""


def list_changes(
    conn: Connection,
    scope: Scope,
    *,
    registry: str | None = None,
    after: ChangePosition | None = None,
    limit: int,
) -> ChangesPage:
    """Return at most `limit` changes of a scope after a position, else from the beginning.

    `registry` is an id, or a host or name (case-insensitive). Raise Gone if a deletion after the
    position was forgotten, or if the filter selects other registries than before.
    """
    parameters = {
        "organization_id": scope.organization_id,
        "version": after.version if after else 0,
        "image_id": after.image_id if after else "",
        "limit": limit + 1,
    }
    if scope.registry_id is None and registry is None:
        rows = conn.fetch(ALL_CHANGES, parameters)
    else:
        selection = {"scope_registry_id": scope.registry_id, "registry": registry}
        rows = conn.fetch(REGISTRY_CHANGES, {**parameters, **selection})
    # An organization that never had an image may have no inventory row.
    forgotten_version, newest_version, registry_ids = rows[0][:3] if rows else (0, 0, None)
    registries = _hash(registry_ids or ())
    if after is None:
        after = ChangePosition(0, "", newest_version or 0, registries)
    elif after.registries != registries:
        raise Gone("Other registries match the filter now. Start again without after.")
    elif _is_forgotten(after, forgotten_version or 0):
        raise Gone(
            "The cursor is older than the deletions that are kept, 30 days."
            " Start again without after."
        )
    changes = [row[3:] for row in rows if row[3] is not None]
    has_next = len(changes) > limit
    del changes[limit:]
    items = [
        ImageSummary._make(columns) if name is None else DeletedImage(image_id, name)
        for _, name, image_id, *columns in changes
    ]
    version, _, image_id = changes[-1][:3] if changes else (after.version, None, after.image_id)
    complete_version = after.complete_version
    if not has_next:
        complete_version = max(complete_version, version)
    position = ChangePosition(version, image_id, complete_version, registries)
    return ChangesPage(items, position, has_next)


def _is_forgotten(after: ChangePosition, forgotten_version: int) -> bool:
    # A page may end between two changes of one version, so only earlier versions are complete.
    return max(after.complete_version, after.version - 1) < forgotten_version


def _hash(registry_ids: Sequence[str]) -> bytes:
    return sha256(",".join(registry_ids).encode()).digest()[:8]
