"""What lies behind the rows of the list: one image, its tags, its findings; and all in numbers."""

from typing import Any

from harborguard.errors import NotFound
from harborguard.listing import (
    FindingCriteria,
    FindingSummary,
    ImageCriteria,
    ImageDetails,
    ImageSummary,
    Page,
    RegistryCount,
    TagSummary,
)
from harborguard.model import Scope
from harborguard.store.connection import Connection
from harborguard.store.finding_query import FindingQuery
from harborguard.store.image_filters import ImageFilters
from harborguard.store.statements import STATEMENTS
from harborguard.store.summary_query import make_summary_query

_SUMMARY = len(ImageSummary._fields)


def get_image(conn: Connection, scope: Scope, image_id: str) -> ImageDetails:
    """An image of the scope; raises NotFound, the same for another's and for none at all."""
    key = {
        "organization_id": scope.organization_id,
        "registry_id": scope.registry_id,
        # No id holds NUL, and the driver would not send one.
        "image_id": image_id.replace("\0", ""),
    }
    row = conn.execute(STATEMENTS["find_image"], key).fetchone()
    if row is None or row[0] != image_id:
        raise NotFound
    return ImageDetails._make((ImageSummary._make(row[:_SUMMARY]), *row[_SUMMARY:]))


def list_tags(
    conn: Connection, scope: Scope, image_id: str, page: Page
) -> tuple[list[TagSummary], int]:
    """A page of an image's tags, newest first, and how many there are; NotFound likewise."""
    image = get_image(conn, scope, image_id)
    parameters = {
        "organization_id": scope.organization_id,
        "image_id": image.summary.id,
        "limit": page.size,
        "offset": page.offset,
    }
    rows = conn.execute(STATEMENTS["list_tags"], parameters).fetchall()
    return [TagSummary._make(row) for row in _items(rows)], rows[0][0]


def list_findings(
    conn: Connection, scope: Scope, image_id: str, *, criteria: FindingCriteria, page: Page
) -> tuple[list[FindingSummary], int]:
    """A page of findings behind an image's counts that match, and how many; or NotFound."""
    scan_id = get_image(conn, scope, image_id).scan_id
    if scan_id is None:
        return [], 0
    query = FindingQuery(scope.organization_id, scan_id, criteria)
    rows = conn.execute(*query.page(page)).fetchall()
    return [FindingSummary._make(row) for row in _items(rows)], rows[0][0]


def count_images(
    conn: Connection, scope: Scope, criteria: ImageCriteria, *, use_counters: bool = True
) -> list[RegistryCount]:
    """How many images match, by registry; those without any are left out."""
    from_counters = use_counters and criteria.search is None
    query = make_summary_query(ImageFilters(scope, criteria), from_counters=from_counters)
    rows = conn.execute(*query)
    return [RegistryCount._make((*row[:4], row[4:8], row[8])) for row in rows]


def _items(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    # Past the end there is one row, of the total alone.
    return [row[1:] for row in rows if row[1] is not None]
