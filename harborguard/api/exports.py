"""GET /api/images/export: all images as CSV or NDJSON (contract 8.16)."""

from collections.abc import Generator
from itertools import chain

import structlog
from flask import Blueprint, Response, g, request

from harborguard.api.auth import require
from harborguard.api.openapi import documented
from harborguard.api.queries import ExportImagesQuery, parse_query
from harborguard.api.services import release_connection, services
from harborguard.model import Role
from harborguard.store.images.export import ExportFormat, export_images

blueprint = Blueprint("exports", __name__, url_prefix="/images/export")

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
    headers = {"Content-Disposition": f'attachment; filename="images.{export_format}"'}
    media_type = _MEDIA_TYPES[export_format]
    if request.method == "HEAD":
        return Response(headers=headers, mimetype=media_type)
    release_connection()
    principal = g.principal
    blocks = export_images(
        services().config, principal.scope, criteria, export_format, caller=principal.id
    )
    # Errors before the first block have the envelope of other errors.
    first = next(blocks, b"")
    return Response(_log_errors(first, blocks), headers=headers, mimetype=media_type)


def _log_errors(first: bytes, blocks: Generator[bytes]) -> Generator[bytes]:
    try:
        yield from chain([first], blocks)
    except Exception as error:
        log.error("export interrupted", error=type(error).__name__)  # noqa: TRY400
        raise
    finally:
        blocks.close()
