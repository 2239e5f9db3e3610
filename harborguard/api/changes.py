"""GET /api/images/changes: what has changed since a cursor (contract 8.14)."""

from flask import Blueprint, Response, g, request

from harborguard.api.auth import require
from harborguard.api.cursors import decode_cursor, encode_cursor
from harborguard.api.openapi import documented
from harborguard.api.queries import ListChangesQuery, parse_query
from harborguard.api.responses import ChangesPageResponse, json_response, serialize_change
from harborguard.api.services import read
from harborguard.model import Role
from harborguard.store.images.changes import list_changes

blueprint = Blueprint("changes", __name__, url_prefix="/images/changes")

_QUERY = ListChangesQuery()


@blueprint.get("")
@require(Role.VIEWER)
@documented(
    tag="images", query=ListChangesQuery, responses={200: ChangesPageResponse}, errors=[410]
)
def list_image_changes() -> Response:
    """List the changes of images, the oldest first.

    Each image is listed once, at its newest change. Without `after`, the list begins with the
    oldest change. Follow `links.next` to the end, keep `meta.cursor`, and pass it as `after` later
    to get what has changed since. The status 410 means that the walk must begin again.
    """
    query = parse_query(_QUERY, request.args)
    after, limit, registry = query.get("after"), query["limit"], query.get("registry")
    scope = g.principal.scope
    position = decode_cursor(after, scope, registry) if after else None
    page = read(
        lambda conn: list_changes(conn, scope, registry=registry, after=position, limit=limit)
    )
    rows = [serialize_change(item) for item in page.items]
    g.rows = len(rows)
    cursor = encode_cursor(page.position, scope, registry)
    links = {"self": _QUERY.link(query)}
    if page.has_next:
        links["next"] = _QUERY.link({**query, "after": cursor})
    meta = {"pageSize": limit, "hasNext": page.has_next, "cursor": cursor}
    return json_response({"data": rows, "meta": meta, "links": links})
