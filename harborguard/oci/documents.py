"""What a registry's answers say, as far as it is read here."""

from typing import TypeVar

import msgspec
from msgspec import Struct

from harborguard.errors import RegistryError

_T = TypeVar("_T")


class Catalog(Struct):
    """A page of /v2/_catalog."""

    repositories: list[str] | None


class Tags(Struct):
    """A page of a repository's tags; null where all were deleted."""

    tags: list[str] | None


class Token(Struct):
    """A token service's answer; older ones use the one name, younger ones the other."""

    token: str = ""
    access_token: str = ""


class Platform(Struct):
    """What an image of an index runs on."""

    os: str = ""
    architecture: str = ""


class Descriptor(Struct, rename="camel"):
    """A reference to content (OCI image specification, descriptor.md)."""

    digest: str
    media_type: str = ""
    platform: Platform | None = None


class Manifest(Struct):
    """An image's manifest or an index, which lists others (manifest.md, image-index.md)."""

    config: Descriptor | None = None
    manifests: list[Descriptor] | None = None


def decode(body: bytes, kind: type[_T]) -> _T:
    """A JSON answer; RegistryError for what is none, or of another shape."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RegistryError(f"an answer is not the JSON of a {kind.__name__.lower()}") from None
