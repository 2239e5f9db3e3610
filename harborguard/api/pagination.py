"""A page of a listing as the contract's envelope; the only builder of links."""

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from harborguard.listing import Page

Filters = Sequence[tuple[str, str]]
Link = Callable[[int], str]


def envelope(data: list[dict[str, Any]], total: int, page: Page, link: Link) -> dict[str, Any]:
    """`{data, meta, links}` (contract, section 2)."""
    pages = -(-total // page.size)
    has_next = page.number < pages
    has_prev = page.number > 1 and total > 0
    links = {"self": link(page.number)}
    if has_next:
        links["next"] = link(page.number + 1)
    if has_prev:
        links["prev"] = link(min(page.number - 1, pages))
    meta = {
        "page": page.number,
        "pageSize": page.size,
        "total": total,
        "totalPages": pages,
        "hasNext": has_next,
        "hasPrev": has_prev,
    }
    return {"data": data, "meta": meta, "links": links}


def make_link(path: str, page: Page, filters: Filters = ()) -> Link:
    """From a page's number to its link, relative to the host; `filters` are as understood."""
    query = urlencode([("limit", page.size), *filters], quote_via=quote, safe="")
    return lambda number: f"{path}?page={number}&{query}"
