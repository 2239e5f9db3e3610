"""Conditional requests: an answer's tag, and 304 for who has the answer (RFC 9110, 13.1.2)."""

from hashlib import sha256

from flask import Response, request

from harborguard import __version__
from harborguard.model import Scope


def make_etag(scope: Scope, version: int, question: str) -> str:
    """What tells two answers apart: who may see what, at which version, asked what, by us.

    `question` is the answer's own link: path and query, as understood.
    """
    parts = (scope.organization_id, scope.registry_id or "", str(version), question, __version__)
    return sha256("\n".join(parts).encode()).hexdigest()[:32]


def is_conditional() -> bool:
    """Whether the request says which answers it has."""
    return "If-None-Match" in request.headers


def has_already(etag: str) -> bool:
    """Whether the client has this answer; weakly compared, as a proxy that compresses weakens."""
    tags = request.if_none_match
    return tags.star_tag or tags.contains_weak(etag)


def not_modified(etag: str) -> Response:
    """304: what the client has still holds."""
    response = Response(status=304)
    response.set_etag(etag)
    return response
