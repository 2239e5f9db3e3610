"""The images of a scope, as the list shows them."""

from harborguard.listing import ImageCriteria, ImageSummary, Listing, Page
from harborguard.model import Scope
from harborguard.store.image_query import ImageQuery
from harborguard.store.pool import Connection


def list_images(conn: Connection, scope: Scope, criteria: ImageCriteria, page: Page) -> Listing:
    """The page's images, and how many match in all: one statement, a second past the end."""
    query = ImageQuery(scope, criteria)
    rows = conn.execute(*query.page(page)).fetchall()
    if rows:
        return Listing([ImageSummary._make(row[:-1]) for row in rows], total=rows[0][-1])
    if page.offset == 0:
        return Listing([], total=0)
    return Listing([], total=_scalar(conn, query))


def _scalar(conn: Connection, query: ImageQuery) -> int:
    [total] = conn.execute(*query.count()).fetchone() or [0]
    return total
