"""The list of a scope's images."""

from collections.abc import Callable
from typing import Any

from harborguard.listing import ImageCriteria, ImageSummary, Listing, Page
from harborguard.model import Scope
from harborguard.store.connection import Connection
from harborguard.store.images.plan import Counts, plan_page
from harborguard.store.images.query import ImageQuery
from harborguard.store.statements import STATEMENTS

_ATTEMPTS = 3

Reader = Callable[[Connection, ImageQuery, Page], Listing[ImageSummary] | None]


def list_images(
    conn: Connection,
    scope: Scope,
    criteria: ImageCriteria,
    page: Page,
    *,
    use_counters: bool = True,
) -> Listing[ImageSummary]:
    """Return a page of images, the exact total and the inventory version, all of one moment.

    A page takes one or two statements. If two return different inventory versions, because a write
    was committed between them, they are repeated, at last in one snapshot. `use_counters=False`
    counts rows for every query, so that tests can compare both ways.
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
        raise LookupError("one snapshot returned two inventory versions")
    return listing


def find_inventory_version(conn: Connection, scope: Scope) -> int:
    """Return the scope's version, which increases with each change that its list can show.

    It is that of the inventory, or of the registry to which the scope is limited.
    """
    key = {"organization_id": scope.organization_id}
    if scope.registry_id is None:
        rows = conn.fetch(STATEMENTS["find_inventory_version"], key)
    else:
        key["registry_id"] = scope.registry_id
        rows = conn.fetch(STATEMENTS["find_registry_version"], key)
    return rows[0][0] if rows else 0


def _choose_reader(query: ImageQuery, page: Page, *, use_counters: bool) -> Reader:
    if use_counters and query.is_search:
        return _read_search
    if not (use_counters and query.uses_counters):
        return _read_window
    return _read_early_page if query.is_early(page) else _read_planned_page


def _read_early_page(
    conn: Connection, query: ImageQuery, page: Page
) -> Listing[ImageSummary] | None:
    rows = conn.fetch(*query.early_page(page))
    version, total = _version_and_total(rows)
    return Listing(_summaries(rows), total, version)


def _read_planned_page(
    conn: Connection, query: ImageQuery, page: Page
) -> Listing[ImageSummary] | None:
    counts = _counts(conn.fetch(*query.counts()))
    plan = plan_page(query.sort, page, counts)
    if not plan:
        return Listing([], counts.total, counts.version)
    rows = conn.fetch(*query.page(plan))
    version, _ = _version_and_total(rows)
    if version != counts.version:
        return None
    return Listing(_summaries(rows), counts.total, counts.version)


def _read_search(conn: Connection, query: ImageQuery, page: Page) -> Listing[ImageSummary] | None:
    return _with_total(
        conn, query, page, conn.fetch(*query.search(page)), is_exact=query.uses_names
    )


def _read_window(conn: Connection, query: ImageQuery, page: Page) -> Listing[ImageSummary] | None:
    return _with_total(conn, query, page, conn.fetch(*query.window(page)))


def _with_total(
    conn: Connection,
    query: ImageQuery,
    page: Page,
    rows: list[tuple[Any, ...]],
    *,
    is_exact: bool = False,
) -> Listing[ImageSummary] | None:
    version, total = _version_and_total(rows)
    # The window stopped at its limit, or the page is empty and has no total.
    is_stopped = not is_exact and total is not None and total >= query.max_counted(page)
    if is_stopped or (total is None and page.offset > 0):
        counted_version, total = _version_and_total(conn.fetch(*query.count()))
        if counted_version != version:
            return None
    return Listing(_summaries(rows), total or 0, version)


def _version_and_total(rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    # The organization can have been deleted after the request was authenticated.
    return rows[0][:2] if rows else (0, 0)


def _counts(rows: list[tuple[Any, ...]]) -> Counts:
    version, images = rows[0][:2] if rows else (0, 0)
    return Counts(version, images, [(score, n) for _, _, score, n in rows if n is not None])


def _summaries(rows: list[tuple[Any, ...]]) -> list[ImageSummary]:
    # Columns are version, total, then a summary's. An empty page is one row of nulls.
    if not rows or rows[0][2] is None:
        return []
    return [ImageSummary._make(row[2:]) for row in rows]
