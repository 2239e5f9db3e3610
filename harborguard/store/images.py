"""The images of a scope, as the list shows them."""

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

from harborguard.listing import ImageCriteria, ImageSummary, Listing, Page
from harborguard.model import Scope
from harborguard.store.connection import Connection
from harborguard.store.image_place import Counts, find_place
from harborguard.store.image_query import ImageQuery, counted_to
from harborguard.store.statements import STATEMENTS

_ATTEMPTS = 3

# A row is version, total and then a summary's columns.
_columns = itemgetter(slice(2, None))
_summary = partial(tuple.__new__, ImageSummary)

Reader = Callable[[Connection, ImageQuery, Page], Listing | None]


def list_images(
    conn: Connection,
    scope: Scope,
    criteria: ImageCriteria,
    page: Page,
    *,
    use_counters: bool = True,
) -> Listing:
    """The page's images, how many match in all, and the version: all of one moment.

    One statement, or two that are seen to be of one version of the inventory. Where scans come so
    fast that they are not, they are asked again, and at last inside one snapshot.
    """
    query = ImageQuery(scope, criteria)
    read = _choose_reader(query, page, use_counters=use_counters)
    for _ in range(_ATTEMPTS):
        listing = read(conn, query, page)
        if listing is not None:
            return listing
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        listing = read(conn, query, page)
    if listing is None:
        raise LookupError("one snapshot told two versions of an inventory")
    return listing


def find_inventory_version(conn: Connection, scope: Scope) -> int:
    """The version of the inventory: it moves with every change that a listing could show."""
    key = {"organization_id": scope.organization_id}
    rows = conn.fetch(STATEMENTS["find_inventory_version"], key)
    return rows[0][0] if rows else 0


def _choose_reader(query: ImageQuery, page: Page, *, use_counters: bool) -> Reader:
    if query.is_search or not use_counters:
        return _read_window
    return _read_first if query.is_first(page) else _read_place


def _read_first(conn: Connection, query: ImageQuery, page: Page) -> Listing | None:
    rows = conn.fetch(*query.first(page))
    version, total = _head(rows)
    return Listing(_summaries(rows), total, version)


def _read_place(conn: Connection, query: ImageQuery, page: Page) -> Listing | None:
    counts = _counts(query, conn.fetch(*query.counts()))
    place = find_place(query.sort, page, counts)
    if not place:
        return Listing([], counts.total, counts.version)
    rows = conn.fetch(*query.place(place))
    if _head(rows)[0] != counts.version:
        return None
    return Listing(_summaries(rows), counts.total, counts.version)


def _read_window(conn: Connection, query: ImageQuery, page: Page) -> Listing | None:
    rows = conn.fetch(*query.window(page))
    version, total = _head(rows)
    if total == counted_to(page) or (total is None and page.offset > 0):
        [(version_counted, total)] = conn.fetch(*query.count())
        if version_counted != version:
            return None
    return Listing(_summaries(rows), total or 0, version)


def _head(rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    # An organization that never had an image may have no inventory either.
    return rows[0][:2] if rows else (0, 0)


def _counts(query: ImageQuery, rows: list[tuple[Any, ...]]) -> Counts:
    version, images = _head(rows)
    counts = Counts(version, images, [(step, n) for _, _, step, n in rows if n is not None])
    if query.is_by_day and counts.total != images:
        # An earlier release that serves beside this one records images and counts no days.
        return Counts(version, images, [(None, images)])
    return counts


def _summaries(rows: list[tuple[Any, ...]]) -> list[ImageSummary]:
    # An empty page is one row of nulls beside the version.
    is_empty = not rows or rows[0][2] is None
    return [] if is_empty else list(map(_summary, map(_columns, rows)))
