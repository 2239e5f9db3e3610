"""GET /api/docs: the API reference, which shows the OpenAPI document and can call the service.

The files of Swagger UI come from a Python package. The page loads nothing from other hosts.
"""

from pathlib import Path

import flask_swagger_ui
from flask import Blueprint, Response

from harborguard.api.conditional import CONDITION
from harborguard.api.openapi import documented
from harborguard.api.static_files import send_file, set_security_headers
from harborguard.errors import NotFound

blueprint = Blueprint("docs", __name__, url_prefix="/api/docs")

_PAGE = Path(__file__).parent / "docs_page"
_SWAGGER_UI = Path(flask_swagger_ui.__file__).parent / "dist"
_FILES = {
    "init.js": _PAGE,
    "swagger-ui.css": _SWAGGER_UI,
    "swagger-ui-bundle.js": _SWAGGER_UI,
}
# Swagger UI needs inline styles, and its images are data URLs.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


@blueprint.get("")
@documented(
    tag="service",
    request_headers=CONDITION,
    responses={200: ["text/html"], 304: None},
    errors=[404],
)
def get_docs_page() -> Response:
    """Return the API reference as an HTML page.

    The status is 404 if the operator has switched the page off.
    """
    return send_file(_PAGE, "index.html")


@blueprint.get("/<name>")
@documented(
    tag="service",
    path_parameters={"name": "The name of a file of the page."},
    request_headers=CONDITION,
    responses={200: ["text/css", "text/javascript"], 304: None},
    errors=[404],
)
def get_docs_file(name: str) -> Response:
    """Return a file of the API reference."""
    if name not in _FILES:
        raise NotFound("File not found.")
    return send_file(_FILES[name], name)


@blueprint.after_request
def _set_security_headers(response: Response) -> Response:
    return set_security_headers(response, _CONTENT_SECURITY_POLICY)
