"""Parse and normalize image references by the rules of OCI and Docker (contract 6)."""

import re

from harborguard.errors import InvalidReference, Issue
from harborguard.model import Reference

_DOCKER_HUB = "docker.io"
# Other hosts of Docker Hub: the legacy index and the registry API.
_DOCKER_HUB_ALIASES = {"index.docker.io", "registry-1.docker.io"}
_MAX_NAME = 255

_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_HOST_FORMS = "host, host:port or [IPv6]:port"
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:]+\])(?::[0-9]{{1,5}})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
# The grammar allows these as names, but tools write them as image ids.
_IMAGE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def parse_reference(text: str) -> Reference:
    """Parse an image reference such as `nginx` or `https://GHCR.io/acme/api:1.4`.

    The host is lower-cased; Docker Hub's short names are completed (`docker.io/library/nginx`). A
    reference without tag and digest has the tag `latest`; a reference with only a digest has no
    tag. The grammar is that of the OCI distribution specification. Raise InvalidReference if the
    text is malformed.
    """
    without_scheme = _drop_scheme(text)
    if _IMAGE_ID.fullmatch(without_scheme):
        raise _invalid("is an image id; use a name such as ghcr.io/acme/api:1.4")
    name, at, digest = without_scheme.partition("@")
    host, path = _split_host(name)
    repository, colon, tag = path.partition(":")
    _validate(repository, tag if colon else None, digest if at else None)
    if host == _DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    if len(host) + 1 + len(repository) > _MAX_NAME:
        raise _invalid(f"has a name of more than {_MAX_NAME} characters")
    if not colon and not at:
        tag = "latest"
    return Reference(host, repository, tag or None, digest or None)


def parse_host(text: str) -> str:
    """Parse and normalize a registry host such as `https://GHCR.io/`.

    Raise InvalidReference if the host is malformed.
    """
    try:
        return _normalize_host(_drop_scheme(text).removesuffix("/"))
    except InvalidReference as error:
        message = f"The registry's host is malformed; expected {_HOST_FORMS}."
        raise InvalidReference(message) from error


def parse_digest(text: str | None) -> str | None:
    """Return the digest in `sha256:…` or `name@sha256:…`: the text after the last `@`.

    Return None unless it is sha256 or sha512 in lower-case hexadecimal.
    """
    digest = (text or "").rpartition("@")[2]
    return digest if _DIGEST.fullmatch(digest) else None


def _drop_scheme(text: str) -> str:
    # Checked before lower-casing, which turns some other letters, such as the Kelvin sign, into
    # ASCII ones.
    if not text or not text.isascii():
        raise _invalid("must be a name in ASCII characters, such as ghcr.io/acme/api:1.4")
    scheme = _SCHEME.match(text)
    return text[scheme.end() :] if scheme else text


def _split_host(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first.lower() == "localhost"):
        return _DOCKER_HUB, name
    return _normalize_host(first), rest


def _normalize_host(text: str) -> str:
    host = text.lower()
    if not _HOST.fullmatch(host):
        raise _invalid(f"has a malformed registry host; expected {_HOST_FORMS}")
    return _DOCKER_HUB if host in _DOCKER_HUB_ALIASES else host


def _validate(repository: str, tag: str | None, digest: str | None) -> None:
    if not _REPOSITORY.fullmatch(repository):
        raise _invalid(
            "has a malformed path; expected parts of lower-case letters and digits, "
            "joined by '.', '_', '__' or hyphens, and separated by '/'"
        )
    if tag is not None and not _TAG.fullmatch(tag):
        raise _invalid(
            "has a malformed tag; expected at most 128 letters, digits, '_', '.' and '-', "
            "not beginning with '.' or '-'"
        )
    if digest is not None and not _DIGEST.fullmatch(digest):
        raise _invalid(
            "has a malformed digest; expected sha256: with 64 or sha512: with 128 lower-case "
            "hexadecimal digits"
        )


def _invalid(reason: str) -> InvalidReference:
    return InvalidReference(f"The image reference {reason}.", [Issue("image", reason)])
