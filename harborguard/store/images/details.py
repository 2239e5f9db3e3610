"""One image of a scope, and its tags."""

from typing import Any, LiteralString

from harborguard.errors import NotFound
from harborguard.listing import ImageDetails, ImageSummary, Listing, Page, TagSummary
from harborguard.model import Scope
from harborguard.store.connection import Connection
from harborguard.store.images.columns import IMAGE_COLUMNS, iso_time

_SUMMARY = len(ImageSummary._fields)

_FIND_IMAGE: LiteralString = f"""
SELECT
    {IMAGE_COLUMNS},
    registry.name,
    registry.provider,
    scan.id,
    scan.status,
    scan.scanners
FROM images AS image
JOIN registries AS registry
    ON registry.organization_id = %(organization_id)s AND registry.id = image.registry_id
LEFT JOIN scans AS scan
    ON scan.organization_id = %(organization_id)s AND scan.id = image.scan_id
WHERE image.organization_id = %(organization_id)s
    AND image.id = %(image_id)s
    AND (%(registry_id)s::text IS NULL OR image.registry_id = %(registry_id)s)
"""
# Each row begins with the total. A page past the end is one row with the total alone. The counts
# of a tag come from the newest finished scan of its name (contract 6).
_LIST_TAGS: LiteralString = f"""
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
),
newest_scan AS (
    SELECT DISTINCT ON (tag) *
    FROM finished_scans
    WHERE organization_id = %(organization_id)s
        AND image_id = %(image_id)s
        AND tag IN (SELECT name FROM page)
    ORDER BY tag, finished_at DESC, external_id DESC
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
    {iso_time("scan.finished_at")}
FROM (SELECT count(*) AS total FROM tag) AS counted
LEFT JOIN page ON true
LEFT JOIN newest_scan AS scan ON scan.tag = page.name
ORDER BY page.is_confirmed DESC, page.digest_created_at DESC, page.name DESC
"""


def get_image(conn: Connection, scope: Scope, image_id: str) -> ImageDetails:
    """Return an image of the scope; raise NotFound, including for an image of another scope."""
    key = {
        "organization_id": scope.organization_id,
        "registry_id": scope.registry_id,
        # PostgreSQL's text cannot contain NUL, and no id does.
        "image_id": image_id.replace("\0", ""),
    }
    row = conn.execute(_FIND_IMAGE, key).fetchone()
    if row is None or row[0] != image_id:
        raise NotFound("Image not found.")
    return ImageDetails._make((ImageSummary._make(row[:_SUMMARY]), *row[_SUMMARY:]))


def list_tags(conn: Connection, scope: Scope, image_id: str, page: Page) -> Listing[TagSummary]:
    """Return a page of an image's tags, the latest first; raise NotFound like `get_image`."""
    image = get_image(conn, scope, image_id)
    parameters = {
        "organization_id": scope.organization_id,
        "image_id": image.summary.id,
        "limit": page.size,
        "offset": page.offset,
    }
    rows = conn.execute(_LIST_TAGS, parameters).fetchall()
    return Listing([TagSummary._make(row) for row in without_total(rows)], rows[0][0])


def without_total(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the rows of a page without the total; none if the page is past the end."""
    return [row[1:] for row in rows if row[1] is not None]
