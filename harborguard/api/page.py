"""The page for people: `GET /` for a browser, and the files of harborguard/page.

The page is a client of the API. Its files are static and contain no data.
"""

from pathlib import Path

from flask import Blueprint, Response, request

from harborguard.api.conditional import CONDITION
from harborguard.api.openapi import documented
from harborguard.api.static_files import send_file, set_security_headers
from harborguard.errors import NotFound

blueprint = Blueprint("page", __name__, url_prefix="/page")

_DIRECTORY = Path(__file__).parents[1] / "page"
_INDEX = "index.html"
_FILES = frozenset(path.name for path in _DIRECTORY.iterdir()) - {_INDEX}
# With Trusted Types and without any policy, the page cannot turn text into HTML or code.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


def prefers_page() -> bool:
    """Return whether the client prefers HTML to JSON. `*/*`, which curl sends, is JSON."""
    preferred = request.accept_mimetypes.best_match(["application/json", "text/html"])
    return preferred == "text/html"


def send_page() -> Response:
    """Return the page, or 304 if it is unchanged."""
    return _set_security_headers(send_file(_DIRECTORY, _INDEX))


@blueprint.get("/<name>")
@documented(
    tag="service",
    path_parameters={"name": "The name of a file of the page."},
    request_headers=CONDITION,
    responses={200: ["text/css", "text/javascript", "image/svg+xml"], 304: None},
    errors=[404],
)
def get_page_file(name: str) -> Response:
    """Return a file of the page."""
    if name not in _FILES:
        raise NotFound("File not found.")
    return send_file(_DIRECTORY, name)


@blueprint.after_request
def _set_security_headers(response: Response) -> Response:
    return set_security_headers(response, _CONTENT_SECURITY_POLICY)
