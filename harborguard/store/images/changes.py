"""The changes of a scope's images, in the order in which they were committed (contract 8.14)."""

from collections.abc import Sequence
from hashlib import sha256
from typing import LiteralString

from harborguard.errors import Gone
from harborguard.listing import ChangePosition, ChangesPage, DeletedImage, ImageSummary
from harborguard.model import Scope
from harborguard.store.connection import Connection
from harborguard.store.images.columns import IMAGE_COLUMNS, row_by_key
from harborguard.store.images.filters import REGISTRY_MATCHES, TENANT

_IS_AFTER: LiteralString = "(version, image_id) > (%(version)s, %(image_id)s)"
# The newest version is that of the statement's snapshot. Version order is commit order, so all
# changes up to it are visible.
_SCOPE: LiteralString = f"""
    SELECT forgotten_version, version AS newest_version, NULL::text[] AS registry_ids
    FROM inventories
    WHERE {TENANT}"""
_REGISTRY_SCOPE: LiteralString = f"""
    SELECT
        max(registry.forgotten_version) AS forgotten_version,
        (SELECT version FROM inventories WHERE {TENANT}) AS newest_version,
        coalesce(array_agg(registry.id ORDER BY registry.id), '{{}}') AS registry_ids
    FROM registries AS registry
    WHERE registry.organization_id = %(organization_id)s
        AND (%(scope_registry_id)s::text IS NULL OR registry.id = %(scope_registry_id)s)
        AND (%(registry)s::text IS NULL OR {REGISTRY_MATCHES})"""


def _changes_of(scope: LiteralString, *filters: LiteralString) -> LiteralString:
    """Return the statement: a row for each change, or one row without a change."""
    conditions = " AND ".join([TENANT, _IS_AFTER, *filters])
    return f"""
SELECT
    scope.forgotten_version,
    scope.newest_version,
    scope.registry_ids,
    change.version,
    change.deleted_name,
    change.image_id,
    {IMAGE_COLUMNS}
FROM ({scope}
) AS scope
LEFT JOIN LATERAL (
    SELECT version, image_id, deleted_name
    FROM image_changes
    WHERE {conditions}
    ORDER BY version, image_id
    LIMIT %(limit)s
) AS change ON true
LEFT JOIN LATERAL ({row_by_key("images", "id", "change.image_id")}
) AS image ON true
ORDER BY change.version, change.image_id
"""


ALL_CHANGES: LiteralString = _changes_of(_SCOPE)
REGISTRY_CHANGES: LiteralString = _changes_of(
    _REGISTRY_SCOPE, "(registry_id = ANY (scope.registry_ids)) IS TRUE"
)


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
    if has_next:
        version, _, image_id = changes[-1][:3]
        position = after._replace(version=version, image_id=image_id)
    else:
        # (version + 1, "") is the position after all images of `version`. It is never before
        # `after`, which is newer than the inventory if a backup was restored.
        newest_version = max(newest_version or 0, after.version - 1)
        position = ChangePosition(newest_version + 1, "", newest_version, registries)
    return ChangesPage(items, position, has_next)


def _is_forgotten(after: ChangePosition, forgotten_version: int) -> bool:
    # A page may end between two changes of one version, so only earlier versions are complete.
    return max(after.complete_version, after.version - 1) < forgotten_version


def _hash(registry_ids: Sequence[str]) -> bytes:
    return sha256(",".join(registry_ids).encode()).digest()[:8]
