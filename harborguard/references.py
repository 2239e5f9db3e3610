"""Parse and normalize image references by the rules of OCI and Docker (contract 6)."""

import re
from ipaddress import IPv6Address

from harborguard.errors import InvalidReference, Issue
from harborguard.model import Reference

_DOCKER_HUB = "docker.io"
# Other hosts of Docker Hub: the legacy index, the registry API, and a name that redirects to it.
_DOCKER_HUB_ALIASES = {"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
_MAX_NAME = 255

# Schemes that tools and container runtimes write before a name. `docker:24` and `registry:2` are
# images, and `registry:5000/api` begins with a host; these have no scheme, nor has `podman:latest`.
_URL_SCHEME = (
    r"(?:https?|docker|docker-(?:daemon|image|pullable)|podman|containerd|containers-storage|cri-o"
    r"|registry|oci|oci-registry|oras)://"
)
_TRANSPORT = (
    r"(?:podman|containerd|containers-storage|docker-daemon|oci-registry"
    r"|(?:docker|registry)(?=:[^@]*[:/])):(?![0-9]+/|(?:[0-9][^:/@]*|latest)(?:@|\Z))"
)
_SCHEME = re.compile(rf"{_URL_SCHEME}|{_TRANSPORT}", re.IGNORECASE)
# Schemes before a path, an SBOM or a package.
_LOCAL_SCHEME = re.compile(
    r"(?:docker-archive|oci|oci-(?:archive|dir|layout|model)|singularity|sif|tarball|ostree|dir"
    r"|file|sbom|purl|pkg|cpe|snap):(?![0-9]+/)",
    re.IGNORECASE,
)
_FILE_SUFFIXES = (
    *(".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tgz", ".tbz2", ".txz", ".tzst"),
    *(".oci", ".sif", ".zip", ".json", ".xml", ".spdx"),
)
_HOST_FORMS = "host, host:port or [IPv6]:port"
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_HOST = re.compile(rf"(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_DEFAULT_PORT, _MAX_PORT = 443, 65_535
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
# The grammar allows these as names, but tools write them as image ids, in full or shortened.
_IMAGE_ID = re.compile(r"[0-9a-f]{12,128}|sha(?:256|512):[0-9a-f]*")


def parse_reference(text: str) -> Reference:
    """Parse an image reference such as `nginx` or `https://GHCR.io/acme/api:1.4`.

    The host is lower-cased, without the default port 443; Docker Hub's short names are completed
    (`docker.io/library/nginx`). A reference without tag and digest has the tag `latest`; a
    reference with only a digest has no tag. The grammar is that of the OCI distribution
    specification. Schemes of tools and runtimes are dropped. Raise InvalidReference if the text is
    malformed, an image id, or a path.
    """
    without_scheme = _drop_scheme(text)
    if _IMAGE_ID.fullmatch(without_scheme):
        raise make_image_id_error()
    if _LOCAL_SCHEME.match(without_scheme):
        raise _invalid("has the scheme of a file, a directory or a package; use a name")
    name, at, digest = without_scheme.partition("@")
    if is_file_name(name) and not _has_host(name):
        raise _invalid("is the name of a file; use a name such as ghcr.io/acme/api:1.4")
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


def is_short_name(text: str) -> bool:
    """Return whether a reference has neither a scheme nor a host, like `nginx:1` and `acme/api`."""
    return _SCHEME.match(text) is None and not _has_host(text.partition("@")[0])


def is_file_name(text: str) -> bool:
    """Return whether the text ends like the file name of an image archive or an SBOM."""
    return text.lower().endswith(_FILE_SUFFIXES)


def make_image_id_error() -> InvalidReference:
    """Return the error for an image id in place of a name."""
    return _invalid("is an image id; use a name such as ghcr.io/acme/api:1.4")


def _drop_scheme(text: str) -> str:
    # Checked before lower-casing, which turns some other letters, such as the Kelvin sign, into
    # ASCII ones.
    if not text or not text.isascii():
        raise _invalid("must be a name in ASCII characters, such as ghcr.io/acme/api:1.4")
    scheme = _SCHEME.match(text)
    return text[scheme.end() :] if scheme else text


def _has_host(name: str) -> bool:
    first, slash, _ = name.partition("/")
    return bool(slash) and ("." in first or ":" in first or first.lower() == "localhost")


def _split_host(name: str) -> tuple[str, str]:
    if not _has_host(name):
        return _DOCKER_HUB, name
    first, _, rest = name.partition("/")
    return _normalize_host(first), rest


def _normalize_host(text: str) -> str:
    match = _HOST.fullmatch(text.lower())
    if match is None:
        raise _invalid(f"has a malformed registry host; expected {_HOST_FORMS}")
    host, port = match["host"], int(match["port"] or _DEFAULT_PORT)
    if host.startswith("["):
        try:
            host = f"[{IPv6Address(host[1:-1])}]"
        except ValueError as error:
            raise _invalid("has a malformed IPv6 address as its registry host") from error
    if not 1 <= port <= _MAX_PORT:
        raise _invalid(f"has a registry host whose port is not in 1 to {_MAX_PORT}")
    # `registry:443` keeps its port, because `registry` is no host in a name.
    if match["port"] and (port != _DEFAULT_PORT or not _has_host(f"{host}/")):
        host = f"{host}:{port}"
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
