"""Image references: what a person writes, normalized by the rules of OCI and Docker."""

import re

from harborguard.errors import InvalidReference, Issue
from harborguard.model import Reference

_DOCKER_HUB = "docker.io"
# Docker Hub's own other names: the legacy index, and the host its registry API answers on.
_DOCKER_HUB_ALIASES = {"index.docker.io", "registry-1.docker.io"}
_MAX_NAME = 255

_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_HOSTS = "host, host:port or [IPv6]:port"
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:]+\])(?::[0-9]{{1,5}})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
# By the grammar these are names too, but what writes them means an image's id.
_IMAGE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def parse_reference(text: str) -> Reference:
    """An image reference as written (`nginx`, `https://GHCR.io/acme/api:1.4`), normalized.

    Without tag and digest the tag is `latest`; with a digest alone there is no tag. Raises
    InvalidReference, saying what is allowed (contract, section 6; grammar of OCI distribution).
    """
    written = _drop_scheme(text)
    if _IMAGE_ID.fullmatch(written):
        raise _invalid("is an image's id; write its name, like ghcr.io/acme/api:1.4")
    name, at, digest = written.partition("@")
    host, path = _split_host(name)
    repository, colon, tag = path.partition(":")
    _check(repository, tag if colon else None, digest if at else None)
    if host == _DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    if len(host) + 1 + len(repository) > _MAX_NAME:
        raise _invalid(f"names an image with more than {_MAX_NAME} characters")
    if not colon and not at:
        tag = "latest"
    return Reference(host, repository, tag or None, digest or None)


def parse_host(text: str) -> str:
    """A registry's host as written (`https://GHCR.io/`), normalized; InvalidReference otherwise."""
    try:
        return _normalize_host(_drop_scheme(text).removesuffix("/"))
    except InvalidReference as error:
        message = f"The registry's host is malformed; allowed is {_HOSTS}."
        raise InvalidReference(message) from error


def parse_digest(text: str | None) -> str | None:
    """The manifest digest in `sha256:…` or `name@sha256:…` (the last `@` counts).

    None where there is none that is well formed: sha256 or sha512, in lower-case hexadecimal.
    """
    digest = (text or "").rpartition("@")[2]
    return digest if _DIGEST.fullmatch(digest) else None


def _drop_scheme(text: str) -> str:
    # Some other letters become ASCII ones in lower case: the Kelvin sign is a k then.
    if not text or not text.isascii():
        raise _invalid("must be written in ASCII characters, like ghcr.io/acme/api:1.4")
    scheme = _SCHEME.match(text)
    return text[scheme.end() :] if scheme else text


def _split_host(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first.lower() == "localhost"):
        return _DOCKER_HUB, name
    return _normalize_host(first), rest


def _normalize_host(written: str) -> str:
    host = written.lower()
    if not _HOST.fullmatch(host):
        raise _invalid(f"has a malformed registry host; allowed is {_HOSTS}")
    return _DOCKER_HUB if host in _DOCKER_HUB_ALIASES else host


def _check(repository: str, tag: str | None, digest: str | None) -> None:
    if not _REPOSITORY.fullmatch(repository):
        raise _invalid(
            "has a malformed path; allowed are lower-case letters and digits, "
            "joined by '.', '_', '__' or hyphens, in parts separated by '/'"
        )
    if tag is not None and not _TAG.fullmatch(tag):
        raise _invalid(
            "has a malformed tag; allowed are at most 128 letters, digits, '_', '.' and '-', "
            "not beginning with '.' or '-'"
        )
    if digest is not None and not _DIGEST.fullmatch(digest):
        raise _invalid(
            "has a malformed digest; allowed is sha256: or sha512: with all its hexadecimal digits"
        )


def _invalid(why: str) -> InvalidReference:
    return InvalidReference(f"The image reference {why}.", [Issue("image", why)])
