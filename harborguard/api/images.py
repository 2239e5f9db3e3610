"""GET /api/images: an organization's images, a page at a time."""

from functools import lru_cache

from flask import Blueprint, Response, g, request

from harborguard.api.auth import require
from harborguard.api.conditional import has_already, is_conditional, make_etag, not_modified
from harborguard.api.json import json_response
from harborguard.api.pagination import Link, envelope, make_link
from harborguard.api.schemas import ListImagesQuery, dump_criteria, dump_image, parse_query
from harborguard.api.services import read
from harborguard.listing import ImageCriteria, Page
from harborguard.model import Role
from harborguard.store.images import list as store

blueprint = Blueprint("images", __name__, url_prefix="/images")

_QUERY = ListImagesQuery()


@lru_cache(maxsize=256)
def _understand(_query_string: bytes) -> tuple[ImageCriteria, Page, Link]:
    # Who polls asks the same again and again: what it means is remembered, a refusal is not.
    criteria, page = parse_query(_QUERY, request.args)
    return criteria, page, make_link(request.path, page, dump_criteria(criteria))


@blueprint.get("")
@require(Role.VIEWER)
def list_images() -> Response:
    """The images that match, filtered, searched, sorted; 304 for who has this answer already."""
    criteria, page, link = _understand(request.query_string)
    question = link(page.number)
    scope = g.principal.scope
    if is_conditional():
        version = read(lambda conn: store.find_inventory_version(conn, scope))
        etag = make_etag(scope, version, question)
        if has_already(etag):
            return not_modified(etag)
    listing = read(lambda conn: store.list_images(conn, scope, criteria, page))
    rows = [dump_image(image) for image in listing.items]
    g.rows = len(rows)
    response = json_response(envelope(rows, listing.total, page, link))
    response.set_etag(make_etag(scope, listing.version, question))
    return response
