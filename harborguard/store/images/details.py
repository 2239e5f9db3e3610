"""One image of a scope, and its tags."""

from typing import Any, LiteralString

from harborguard.errors import NotFound
from harborguard.listing import (
    ImageDetails,
    ImageSummary,
    Listing,
    OtherScan,
    Page,
    TagSummary,
)
from harborguard.model import Scope
from harborguard.store.connection import Connection
from harborguard.store.images.columns import IMAGE_COLUMNS, iso_time, row_by_key
from harborguard.store.statements import STATEMENTS

_SUMMARY = len(ImageSummary._fields)
_MAX_OTHER_SCANS = 16  # contract 8.1

# Of the compared scans (contract 6.6), the one with rank 1 counts; the others are `other_scans`.
FIND_IMAGE: LiteralString = f"""
SELECT
    {IMAGE_COLUMNS},
    registry.name,
    registry.provider,
    scan.id,
    scan.status,
    scan.scanners,
    {iso_time("scan.finished_at")},
    ARRAY(
        SELECT jsonb_build_array(
            other.id,
            other.status,
            other.scanners,
            {iso_time("other.finished_at")},
            other.risk_score,
            other.grade
        )
        FROM compared_scans(%(organization_id)s, image.id, coalesce(scan.tag, '')) AS other
        WHERE other.rank BETWEEN 2 AND %(max_rank)s
        ORDER BY other.rank
    )
FROM images AS image
JOIN registries AS registry
    ON registry.organization_id = %(organization_id)s AND registry.id = image.registry_id
LEFT JOIN LATERAL ({row_by_key("scans", "id", "image.scan_id")}
) AS scan ON true
WHERE image.organization_id = %(organization_id)s
    AND image.id = %(image_id)s
    AND (%(registry_id)s::text IS NULL OR image.registry_id = %(registry_id)s)
"""
# Each row begins with the total. A page past the end is one row with the total alone. The counts
# of a tag come from its newest finished scan or one compared with it (contract 6.6).
LIST_TAGS: LiteralString = f"""
WITH tag AS (
    SELECT *
    FROM current_tags
    WHERE organization_id = %(organization_id)s AND image_id = %(image_id)s
),
page AS (
    SELECT *
    FROM tag
    ORDER BY is_confirmed DESC, digest_created_at DESC, name DESC
    LIMIT %(limit)s OFFSET %(offset)s
)
SELECT
    counted.total,
    page.name,
    page.digest,
    {iso_time("page.digest_created_at")},
    {iso_time("page.last_observed_at")},
    scan.risk_score,
    scan.grade,
    coalesce(scan.critical, 0),
    coalesce(scan.high, 0),
    coalesce(scan.medium, 0),
    coalesce(scan.low, 0),
    {iso_time("scan.newest_finished_at")}
FROM (SELECT count(*) AS total FROM tag) AS counted
LEFT JOIN page ON true
LEFT JOIN LATERAL (
    SELECT *
    FROM compared_scans(%(organization_id)s, %(image_id)s, page.name)
    WHERE rank = 1
) AS scan ON true
ORDER BY page.is_confirmed DESC, page.digest_created_at DESC, page.name DESC
"""


def get_image(conn: Connection, scope: Scope, image_id: str) -> ImageDetails:
    """Return an image of the scope; raise NotFound, including for an image of another scope."""
    *columns, other_scans = _fetch_image(conn, FIND_IMAGE, scope, image_id)
    return ImageDetails._make(
        (
            ImageSummary._make(columns[:_SUMMARY]),
            *columns[_SUMMARY:],
            [OtherScan._make(scan) for scan in other_scans],
        )
    )


def list_tags(conn: Connection, scope: Scope, image_id: str, page: Page) -> Listing[TagSummary]:
    """Return a page of an image's tags, the latest first; raise NotFound like `get_image`."""
    get_counted_scan(conn, scope, image_id)  # raises NotFound for an image outside of the scope
    parameters = {
        "organization_id": scope.organization_id,
        "image_id": image_id,
        "limit": page.size,
        "offset": page.offset,
    }
    rows = conn.execute(LIST_TAGS, parameters).fetchall()
    return Listing([TagSummary._make(row) for row in without_total(rows)], rows[0][0])


def get_counted_scan(
    conn: Connection, scope: Scope, image_id: str
) -> tuple[str | None, int | None]:
    """Return the scan that an image's counts come from, and the set of its findings.

    Both are None if the image was never scanned. The set alone is None if its findings
    were deleted while the scan was superseded (contract 6.9). Raise NotFound like `get_image`.
    """
    _, scan_id, set_id = _fetch_image(conn, STATEMENTS["get_counted_scan"], scope, image_id)
    return scan_id, set_id


def _fetch_image(
    conn: Connection, statement: LiteralString, scope: Scope, image_id: str
) -> tuple[Any, ...]:
    """Return the row of a statement that finds an image and returns its id first."""
    key = {
        "organization_id": scope.organization_id,
        "registry_id": scope.registry_id,
        # PostgreSQL's text cannot contain NUL, and no id does.
        "image_id": image_id.replace("\0", ""),
        "max_rank": 1 + _MAX_OTHER_SCANS,
    }
    row = conn.execute(statement, key).fetchone()
    if row is None or row[0] != image_id:
        raise NotFound("Image not found.")
    return row


def without_total(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the rows of a page without the total; none if the page is past the end."""
    return [row[1:] for row in rows if row[1] is not None]
