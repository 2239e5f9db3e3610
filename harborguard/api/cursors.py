"""Cursors of GET /api/images/changes: a position as text, bound to a scope and a filter.

The text is base64url of the position and a checksum, which contains the organization, the registry
to which the key is limited, and the filter. The checksum is no secret: a client that forges a
cursor reads only what its credential may read.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from struct import Struct

from harborguard.errors import InvalidRequest, Issue
from harborguard.listing import ChangePosition
from harborguard.model import Scope

_NUMBERS = Struct(">qq8s")  # version, complete version, hash of the registries
_CHECKSUM_BYTES = 8
_IMAGE_ID = re.compile("[!-~]{0,64}")
_MESSAGE = "is not a cursor of this organization and registry; start again without it"


def encode_cursor(position: ChangePosition, scope: Scope, registry: str | None) -> str:
    """Return the cursor of a position."""
    version, image_id, complete_version, registries = position
    body = _NUMBERS.pack(version, complete_version, registries) + image_id.encode()
    return _to_text(_checksum(body, scope, registry) + body)


def decode_cursor(text: str, scope: Scope, registry: str | None) -> ChangePosition:
    """Return the position of a cursor; raise InvalidRequest if it is malformed or foreign."""
    position = _decode(text, scope, registry)
    if position is None:
        raise InvalidRequest("The query is not valid.", [Issue("after", _MESSAGE)])
    return position


def _decode(text: str, scope: Scope, registry: str | None) -> ChangePosition | None:
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    checksum, body = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
    # b64decode ignores unknown characters and excess bits.
    if _to_text(data) != text or checksum != _checksum(body, scope, registry):
        return None
    if len(body) < _NUMBERS.size:
        return None
    version, complete_version, registries = _NUMBERS.unpack_from(body)
    image_id = body[_NUMBERS.size :].decode("latin-1")
    if not _IMAGE_ID.fullmatch(image_id):
        return None
    return ChangePosition(version, image_id, complete_version, registries)


def _checksum(body: bytes, scope: Scope, registry: str | None) -> bytes:
    binding = "\n".join([scope.organization_id, scope.registry_id or "", registry or "", ""])
    return sha256(binding.encode() + body).digest()[:_CHECKSUM_BYTES]


def _to_text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")
