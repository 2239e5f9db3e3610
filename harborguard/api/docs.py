"""GET /api/docs: a page to read the OpenAPI document on, and to try the service with.

Swagger UI's files come from a package; everything is served from here, and the page may load
nothing from anywhere else.
"""

from pathlib import Path

import flask_swagger_ui
from flask import Blueprint, Response, send_from_directory

from harborguard.errors import NotFound

blueprint = Blueprint("docs", __name__)

_OURS = Path(__file__).parent / "docs_page"
_SWAGGER_UI = Path(flask_swagger_ui.__file__).parent / "dist"
_FILES = {
    "init.js": _OURS,
    "swagger-ui.css": _SWAGGER_UI,
    "swagger-ui-bundle.js": _SWAGGER_UI,
}
# Swagger UI writes style attributes; its pictures are data.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


@blueprint.get("/docs")
def docs() -> Response:
    """The page."""
    return send_from_directory(_OURS, "index.html")


@blueprint.get("/docs/<name>")
def docs_file(name: str) -> Response:
    """One of the page's files; raises NotFound for any other."""
    if name not in _FILES:
        raise NotFound
    return send_from_directory(_FILES[name], name)


@blueprint.after_request
def _confine(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
