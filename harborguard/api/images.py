"""GET /api/images: an organization's images, a page at a time."""

from flask import Blueprint, Response, g, jsonify, request

from harborguard.api.auth import require
from harborguard.api.conditional import has_already, is_conditional, make_etag, not_modified
from harborguard.api.pagination import envelope, link
from harborguard.api.schemas import ListImagesQuery, dump_criteria, dump_image, parse_query
from harborguard.api.services import read, services
from harborguard.model import Role
from harborguard.store import images as store

blueprint = Blueprint("images", __name__, url_prefix="/images")

_QUERY = ListImagesQuery()


@blueprint.get("")
@require(Role.VIEWER)
def list_images() -> Response:
    """The images that match, filtered, searched, sorted; 304 for who has this answer already."""
    criteria, page = parse_query(_QUERY, request.args)
    filters = dump_criteria(criteria)
    question = link(request.path, page, filters)
    scope = g.principal.scope
    if is_conditional():
        version = read(lambda conn: store.find_inventory_version(conn, scope))
        etag = make_etag(scope, version, question)
        if has_already(etag):
            return not_modified(etag)
    use_counters = services().config.counters
    listing = read(
        lambda conn: store.list_images(conn, scope, criteria, page, use_counters=use_counters)
    )
    rows = [dump_image(image) for image in listing.items]
    g.rows = len(rows)
    body = envelope(rows, listing.total, page, path=request.path, filters=filters)
    response = jsonify(body)
    response.set_etag(make_etag(scope, listing.version, question))
    return response
