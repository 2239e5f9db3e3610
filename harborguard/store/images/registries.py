"""A scope's registries with the numbers of their images, from the counters."""

from typing import Any, LiteralString

from harborguard.errors import NotFound
from harborguard.listing import Listing, Page, RegistrySummary
from harborguard.model import Scope
from harborguard.store.connection import Connection
from harborguard.store.images.columns import iso_time
from harborguard.store.images.details import without_total
from harborguard.store.images.summary import GRADE_BOUNDS, GRADE_COUNTS

# Each row begins with the total. A page past the end is one row with the total alone.
LIST_REGISTRIES: LiteralString = f"""
WITH registry AS (
    SELECT *
    FROM registries
    WHERE organization_id = %(organization_id)s
        AND (%(registry_id)s::text IS NULL OR id = %(registry_id)s)
),
page AS (
    SELECT *
    FROM registry
    ORDER BY host
    LIMIT %(limit)s OFFSET %(offset)s
)
SELECT
    counted.total,
    page.id,
    page.host,
    page.name,
    page.provider,
    {iso_time("page.last_synced_at")},
    coalesce(image.n, 0),
    coalesce(image.a, 0),
    coalesce(image.b, 0),
    coalesce(image.c, 0),
    coalesce(image.d, 0),
    coalesce(image.never_scanned, 0)
FROM (SELECT count(*) AS total FROM registry) AS counted
LEFT JOIN page ON true
LEFT JOIN (
    SELECT
        registry_id,
        sum(n) AS n,{GRADE_COUNTS},
        sum(n) FILTER (WHERE risk_score IS NULL) AS never_scanned
    FROM (
        SELECT registry_id, risk_score, n::integer
        FROM image_counts
        WHERE organization_id = %(organization_id)s
            AND (%(registry_id)s::text IS NULL OR registry_id = %(registry_id)s)
    ) AS count
    GROUP BY registry_id
) AS image ON image.registry_id = page.id
ORDER BY page.host
"""


def list_registries(conn: Connection, scope: Scope, page: Page) -> Listing[RegistrySummary]:
    """Return a page of the scope's registries, ordered by host."""
    rows = _fetch(conn, scope, page)
    return Listing([_to_summary(row) for row in without_total(rows)], rows[0][0])


def get_registry(conn: Connection, scope: Scope, registry_id: str) -> RegistrySummary:
    """Return a registry of the scope; raise NotFound, including for one of another scope."""
    # PostgreSQL's text cannot contain NUL, and no id does.
    if scope.registry_id in {None, registry_id} and "\0" not in registry_id:
        rows = _fetch(conn, Scope(scope.organization_id, registry_id), Page(size=1))
        for row in without_total(rows):
            return _to_summary(row)
    raise NotFound("Registry not found.")


def _fetch(conn: Connection, scope: Scope, page: Page) -> list[tuple[Any, ...]]:
    parameters = {
        "organization_id": scope.organization_id,
        "registry_id": scope.registry_id,
        "limit": page.size,
        "offset": page.offset,
        **GRADE_BOUNDS,
    }
    return conn.execute(LIST_REGISTRIES, parameters).fetchall()


def _to_summary(row: tuple[Any, ...]) -> RegistrySummary:
    return RegistrySummary._make((*row[:6], row[6:10], row[10]))
