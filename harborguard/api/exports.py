"""GET /api/images/export: all images as CSV or NDJSON (contract 8.16)."""

from collections.abc import Generator
from itertools import chain

import structlog
from flask import Blueprint, Response, g, request

from harborguard.api.auth import require
from harborguard.api.openapi import documented
from harborguard.api.queries import ExportImagesQuery, parse_query
from harborguard.api.services import release_connection, services
from harborguard.errors import InvalidRequest
from harborguard.model import Role
from harborguard.store.images.export import ExportFormat, export_images

blueprint = Blueprint("exports", __name__, url_prefix="/images/export")

_SEND_TIMEOUT = 5.0  # seconds in which the client must take a block
_NEEDS_HTTP11 = "An export needs HTTP/1.1 or later, which shows whether a response is complete."
_QUERY = ExportImagesQuery()
_MEDIA_TYPES = {
    ExportFormat.CSV: "text/csv",
    ExportFormat.NDJSON: "application/x-ndjson",
}

log = structlog.get_logger()


@blueprint.get("")
@require(Role.VIEWER)
@documented(tag="images", query=ExportImagesQuery, responses={200: [*_MEDIA_TYPES.values()]})
def export_image_list() -> Response:
    """Export all matching images as a file.

    The file is one snapshot, in the order of the list. CSV has a header and flat columns; a line of
    NDJSON is a row of the list. An export that fails midway ends without the last chunk of the
    response, so clients of HTTP/1.1 report an error.
    """
    criteria, export_format = parse_query(_QUERY, request.args)
    if request.environ["SERVER_PROTOCOL"] == "HTTP/1.0":
        raise InvalidRequest(_NEEDS_HTTP11)
    headers = {"Content-Disposition": f'attachment; filename="images.{export_format}"'}
    media_type = _MEDIA_TYPES[export_format]
    if request.method == "HEAD":
        # Flask sends no Content-Length for an iterator, as for GET; for an empty body, it sends 0.
        return Response(iter(()), headers=headers, mimetype=media_type)
    release_connection()
    principal = g.principal
    blocks = export_images(
        services().config, principal.scope, criteria, export_format, caller=principal.id
    )
    # Errors before the first block have the envelope of other errors.
    first = next(blocks, b"")
    if client := request.environ.get("gunicorn.socket"):
        # Otherwise a client that stops reading would keep the snapshot, which blocks vacuum.
        client.settimeout(_SEND_TIMEOUT)
    return Response(_log_errors(first, blocks), headers=headers, mimetype=media_type)


def _log_errors(first: bytes, blocks: Generator[bytes]) -> Generator[bytes]:
    try:
        yield from chain([first], blocks)
    except Exception as error:
        log.error("export interrupted", error=type(error).__name__)  # noqa: TRY400
        raise
    finally:
        blocks.close()
