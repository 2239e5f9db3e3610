"""Conditional requests: the ETag of a response, and 304 (RFC 9110, 13.1.2)."""

from hashlib import sha256
from typing import Any

from flask import Response, request

from harborguard import __version__
from harborguard.api.responses import json_response
from harborguard.model import Scope

# The header of a conditional request, for the OpenAPI document.
CONDITION = {"If-None-Match": "ETags of cached responses. A match returns 304."}
# The ETag of `conditional_response`, for the OpenAPI document.
BODY_ETAG = {"ETag": "Changes with the body."}


def make_etag(scope: Scope, version: int, link: str) -> str:
    """Return the ETag: a hash of scope, its inventory version, link and release.

    `link` is the response's `links.self`: the path and the normalized query string.
    """
    parts = (scope.organization_id, scope.registry_id or "", str(version), link, __version__)
    return sha256("\n".join(parts).encode()).hexdigest()[:32]


def is_conditional() -> bool:
    """Return whether the request has the header If-None-Match."""
    return "If-None-Match" in request.headers


def matches_request(etag: str) -> bool:
    """Return whether If-None-Match contains the ETag.

    The comparison is weak, because a proxy that compresses responses weakens their ETags.
    """
    tags = request.if_none_match
    return tags.star_tag or tags.contains_weak(etag)


def not_modified(etag: str) -> Response:
    """Return the 304 response."""
    response = Response(status=304)
    response.set_etag(etag)
    return response


def conditional_response(body: Any) -> Response:
    """Return a body as a response with its ETag, or 304 if If-None-Match contains the ETag.

    The ETag is a hash of the body. The inventory version would not do: it does not increase with
    all that these resources show, such as a scan of a tag that is not the latest one.
    """
    response = json_response(body)
    etag = sha256(response.get_data()).hexdigest()[:32]
    if is_conditional() and matches_request(etag):
        return not_modified(etag)
    response.set_etag(etag)
    return response
