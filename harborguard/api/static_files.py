"""Files that the service sends to browsers: conditional responses and security headers."""

from pathlib import Path

from flask import Response, send_from_directory

from harborguard.api.conditional import matches_request, not_modified


def send_file(directory: Path, name: str) -> Response:
    """Return a file, or 304 if If-None-Match has its ETag; ignore other conditions and ranges.

    Werkzeug's own conditional responses would be 412 and 416 outside of the envelope. Browsers ask
    for the file again at each use (`Cache-Control: no-cache`), so that an upgrade takes effect.
    """
    response = send_from_directory(directory, name, conditional=False)
    etag, _ = response.get_etag()
    if etag and matches_request(etag):
        response.close()
        return not_modified(etag)
    return response


def set_security_headers(response: Response, content_security_policy: str) -> Response:
    """Add the headers of a page or of one of its files, and return the response."""
    response.headers["Content-Security-Policy"] = content_security_policy
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
