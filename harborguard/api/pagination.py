"""The envelope of lists: `data`, `meta` and `links` (contract 2)."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from flask import g, request
from marshmallow import Schema, fields

from harborguard.api.responses import ResponseSchema, boolean, integer, text
from harborguard.listing import Page

# Returns the link to a page, given the page's number.
LinkBuilder = Callable[[int], str]


class PageMeta(ResponseSchema):
    """The position of a page in the list. `total` is exact."""

    page = integer(1, min=1)
    page_size = integer(50, min=1, max=200)
    total = integer(312)
    total_pages = integer(7)
    has_next = boolean(example=True)
    has_prev = boolean(example=False)


class PageLinks(ResponseSchema):
    """Paths of this page, the next and the previous one. A page that does not exist has no key."""

    self = text("/api/images?page=1&limit=50")
    next = fields.String(metadata={"examples": ["/api/images?page=2&limit=50"]})
    prev = fields.String()


@cache
def page_of(row: type[ResponseSchema]) -> type[Schema]:
    """Return the schema of a page of rows, `XPage` for `XResponse`."""
    body = {
        "data": fields.List(fields.Nested(row), required=True),
        "meta": fields.Nested(PageMeta, required=True),
        "links": fields.Nested(PageLinks, required=True),
        "Meta": ResponseSchema.Meta,
    }
    return type(f"{row.__name__.removesuffix('Response')}Page", (ResponseSchema,), body)


def serialize_page(
    rows: list[dict[str, Any]], total: int, page: Page, link_to: LinkBuilder
) -> dict[str, Any]:
    """Return the envelope of a page; `total` is the number of rows on all pages."""
    pages = -(-total // page.size)
    has_next = page.number < pages
    has_prev = page.number > 1 and total > 0
    links = {"self": link_to(page.number)}
    if has_next:
        links["next"] = link_to(page.number + 1)
    if has_prev:
        links["prev"] = link_to(min(page.number - 1, pages))
    meta = {
        "page": page.number,
        "pageSize": page.size,
        "total": total,
        "totalPages": pages,
        "hasNext": has_next,
        "hasPrev": has_prev,
    }
    return {"data": rows, "meta": meta, "links": links}


def page_response(
    rows: list[dict[str, Any]], total: int, page: Page, parameters: Mapping[str, str]
) -> dict[str, Any]:
    """Return the body of a page of rows, and note the number of rows for the log."""
    g.rows = len(rows)
    return serialize_page(rows, total, page, make_link_builder(request.path, parameters))


def make_link_builder(path: str, parameters: Mapping[str, str]) -> LinkBuilder:
    """Return a function that builds the link to a page with this path and these parameters.

    The parameters keep their order. `page` is replaced and comes first.
    """
    others = [(name, value) for name, value in parameters.items() if name != "page"]
    query = urlencode(others, quote_via=quote, safe="")
    return lambda number: f"{path}?page={number}&{query}"
