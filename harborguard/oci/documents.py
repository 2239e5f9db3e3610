"""JSON documents of a registry, reduced to the fields that the client reads."""

from typing import TypeVar

import msgspec
from msgspec import Struct

from harborguard.errors import RegistryError

_T = TypeVar("_T")


class Catalog(Struct):
    """A page of /v2/_catalog."""

    repositories: list[str] | None


class Tags(Struct):
    """A page of a repository's tags; null if all were deleted."""

    tags: list[str] | None


class ErrorCode(Struct):
    """One error of an error response."""

    code: str


class ErrorDocument(Struct):
    """The body of a registry's error response (distribution specification, error codes)."""

    errors: list[ErrorCode]


class Token(Struct):
    """A token service's response; services use one name, the other or both."""

    token: str = ""
    access_token: str = ""


class Platform(Struct):
    """The platform of an image in an index."""

    os: str = ""
    architecture: str = ""


class Descriptor(Struct, rename="camel"):
    """A reference to content (OCI image specification, descriptor.md)."""

    digest: str
    media_type: str = ""
    platform: Platform | None = None


class Manifest(Struct, rename="camel"):
    """An image manifest, or an index that lists manifests (manifest.md, image-index.md)."""

    schema_version: int = 0
    media_type: str = ""
    config: Descriptor | None = None
    manifests: list[Descriptor] | None = None


def decode(body: bytes, kind: type[_T]) -> _T:
    """Decode a JSON document. Raise RegistryError if it is malformed or has another shape."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RegistryError(f"a response is not a valid {kind.__name__.lower()} document") from None
