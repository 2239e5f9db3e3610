"""GET /api/images: an organization's images, a page at a time."""

from typing import Any

from flask import Blueprint, g, request

from harborguard.api.auth import require
from harborguard.api.pagination import envelope
from harborguard.api.schemas import ListImagesQuery, dump_criteria, dump_image, parse_query
from harborguard.api.services import read
from harborguard.model import Role
from harborguard.store import images as store

blueprint = Blueprint("images", __name__, url_prefix="/images")

_QUERY = ListImagesQuery()


@blueprint.get("")
@require(Role.VIEWER)
def list_images() -> dict[str, Any]:
    """The images that match, filtered, searched, sorted."""
    criteria, page = parse_query(_QUERY, request.args)
    scope = g.principal.scope
    listing = read(lambda conn: store.list_images(conn, scope, criteria, page))
    rows = [dump_image(image) for image in listing.items]
    g.rows = len(rows)
    filters = dump_criteria(criteria)
    return envelope(rows, listing.total, page, path=request.path, filters=filters)
