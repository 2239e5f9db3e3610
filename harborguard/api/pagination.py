"""A page of a listing as the contract's envelope; the only builder of links."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from harborguard.listing import Page

Filters = Sequence[tuple[str, str]]


def envelope(
    data: list[dict[str, Any]], total: int, page: Page, *, path: str, filters: Filters
) -> dict[str, Any]:
    """`{data, meta, links}` (contract, section 2); `filters` are the given ones, as understood."""
    pages = -(-total // page.size)
    has_next = page.number < pages
    has_prev = page.number > 1 and total > 0
    links = {"self": link(path, page, filters)}
    if has_next:
        links["next"] = link(path, Page(page.number + 1, page.size), filters)
    if has_prev:
        links["prev"] = link(path, Page(min(page.number - 1, pages), page.size), filters)
    meta = {
        "page": page.number,
        "pageSize": page.size,
        "total": total,
        "totalPages": pages,
        "hasNext": has_next,
        "hasPrev": has_prev,
    }
    return {"data": data, "meta": meta, "links": links}


def link(path: str, page: Page, filters: Filters) -> str:
    """A page of the same question, relative to the host."""
    query = [("page", str(page.number)), ("limit", str(page.size)), *filters]
    return f"{path}?{urlencode(query, quote_via=quote, safe='')}"
