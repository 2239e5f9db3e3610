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
    links = {"self": _link(path, page.number, page.size, filters)}
    if has_next:
        links["next"] = _link(path, page.number + 1, page.size, filters)
    if has_prev:
        links["prev"] = _link(path, min(page.number - 1, pages), page.size, filters)
    meta = {
        "page": page.number,
        "pageSize": page.size,
        "total": total,
        "totalPages": pages,
        "hasNext": has_next,
        "hasPrev": has_prev,
    }
    return {"data": data, "meta": meta, "links": links}


def _link(path: str, number: int, size: int, filters: Filters) -> str:
    query = [("page", str(number)), ("limit", str(size)), *filters]
    return f"{path}?{urlencode(query, quote_via=quote, safe='')}"
