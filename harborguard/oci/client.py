"""Registry client: repositories, tags, digests and build times."""

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from urllib.parse import parse_qs, urlencode, urlsplit

from harborguard.errors import (
    InvalidReference,
    RegistryDenied,
    RegistryError,
    RegistryUnavailable,
)
from harborguard.image_config import parse_build_time
from harborguard.model import Reference
from harborguard.oci.auth import Authenticator, Credentials
from harborguard.oci.connections import Limits
from harborguard.oci.documents import (
    Catalog,
    Descriptor,
    ErrorDocument,
    Manifest,
    Platform,
    Tags,
    decode,
)
from harborguard.oci.headers import find_next_link
from harborguard.oci.transport import HttpResponse, Transport
from harborguard.oci.urls import join_url, parse_origin
from harborguard.references import parse_digest, parse_reference

_API_HOSTS = {"docker.io": "registry-1.docker.io"}
# Page sizes to ask for until the registry accepts one.
_PAGE_SIZES = (1000, 100)
_MAX_PAGES = 1000
_MAX_NAMES = 200_000
_MAX_NAME = 256  # characters, one more than a valid name has
# Some registries return 404 for a manifest of a type that is not accepted, so accept all types.
_ACCEPT_MANIFESTS = ", ".join(
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.artifact.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "*/*;q=0.1",
    ]
)
_IMAGE_CONFIG_TYPES = {
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
}
# The distribution specification's codes for a missing repository or tag, and Harbor's.
_MISSING_CODES = {"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"}
# Tags of signatures and attestations: the specification's referrers tag schema, and cosign's.
_REFERRERS_TAG = re.compile(r"sha(256|512)-[0-9a-f]{64,128}(\.\w+)?")


class RegistryClient:
    """Client of one registry. Close it when done. Threads may share it.

    Every method raises RegistryError if a response is unusable, and its subclasses RegistryDenied
    if access is denied, and RegistryUnavailable if the registry is unreachable, overloaded or
    broken.
    """

    def __init__(
        self,
        host: str,
        *,
        credentials: Credentials | None = None,
        plain_http: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self.host = host
        self._base_url = f"{'http' if plain_http else 'https'}://{_API_HOSTS.get(host, host)}"
        self._origin = parse_origin(self._base_url)
        self._transport = Transport(self._origin.host, limits or Limits())
        self._has_credentials = credentials is not None
        self._authenticator = Authenticator(self._transport, self._base_url, credentials)

    def close(self) -> None:
        """Close the connections. Requests in other threads fail at their next attempt."""
        self._transport.close()

    def list_repositories(self) -> list[str]:
        """Return the paths of all repositories (Docker's /v2/_catalog)."""
        if self.host == "docker.io":
            raise RegistryError("Docker Hub does not list its repositories")
        first = self._first_page("/v2/_catalog", "")
        if first.status in {401, 403, 404, 405}:
            raise RegistryError(
                f"the registry does not list its repositories {self._attempt} "
                f"(HTTP status {first.status})"
            )
        return self._read_names(first, "", lambda body: decode(body, Catalog).repositories)

    def list_tags(self, repository: str) -> list[str] | None:
        """Return a repository's tags without those of signatures; None if it does not exist.

        Raise InvalidReference for a malformed repository. Malformed tags are returned too.
        """
        self._validate(repository)
        first = self._first_page(f"/v2/{repository}/tags/list", repository)
        if self._is_missing(first):
            return None
        names = self._read_names(first, repository, lambda body: decode(body, Tags).tags)
        return [name for name in names if not _REFERRERS_TAG.fullmatch(name)]

    def find_digest(self, repository: str, tag: str) -> str | None:
        """Return the digest of a tag's manifest or index; None if the tag does not exist.

        A response to HEAD is used only if it has a digest. After any other one, also 404, and after
        an error, GET decides, because many registries and proxies do not support HEAD completely.
        Raise InvalidReference for a malformed tag, and RegistryError if only HEAD finds the tag.
        """
        self._validate(repository, tag)
        path = f"/v2/{repository}/manifests/{tag}"
        is_found_by_head = False
        with suppress(RegistryError):
            head = self._request("HEAD", path, repository, _ACCEPT_MANIFESTS)
            is_found_by_head = head.status == 200
            digest = _reported_digest(head)
            if is_found_by_head and digest:
                return digest
        response = self._request("GET", path, repository, _ACCEPT_MANIFESTS)
        if self._is_missing(response):
            if is_found_by_head:
                raise RegistryError("the registry contradicts itself: only HEAD finds the tag")
            return None
        self._require_success(response)
        digest = _reported_digest(response) or _compute_digest(response.body)
        if digest is None:
            raise RegistryError("the registry reports no valid digest")
        return digest

    def find_build_time(self, repository: str, digest: str) -> datetime | None:
        """Return when a manifest's image was built, from its configuration; None if unknown.

        The build time of an index is that of its image for linux/amd64, or else its first image.
        It is unknown too if the manifest or the configuration is malformed or access is denied.
        """
        try:
            return self._read_build_time(repository, digest)
        except RegistryUnavailable:
            raise
        except RegistryError:
            return None

    def _read_build_time(self, repository: str, digest: str) -> datetime | None:
        manifest = self._fetch_manifest(repository, digest)
        if manifest and manifest.manifests:
            image = _select_image(manifest.manifests)
            manifest = self._fetch_manifest(repository, image.digest) if image else None
        config = manifest and manifest.config
        if not config or config.media_type not in _IMAGE_CONFIG_TYPES:
            return None
        body = self._fetch_content(repository, "blobs", config.digest)
        return parse_build_time(body) if body else None

    def _fetch_manifest(self, repository: str, digest: str) -> Manifest | None:
        body = self._fetch_content(repository, "manifests", digest)
        return decode(body, Manifest) if body else None

    def _fetch_content(self, repository: str, kind: str, digest: str) -> bytes | None:
        """Return a manifest or blob, verified against its digest; None if it does not exist."""
        parsed = parse_digest(digest)
        if parsed is None:
            raise RegistryError("a manifest refers to a malformed digest")
        path = f"/v2/{repository}/{kind}/{parsed}"
        response = self._request("GET", path, repository, _ACCEPT_MANIFESTS)
        if response.status == 404:
            return None
        self._require_success(response)
        algorithm, _, expected = parsed.partition(":")
        if hashlib.new(algorithm, response.body).hexdigest() != expected:
            raise RegistryError(f"the content does not match its digest {parsed}")
        return response.body

    def _validate(self, repository: str, tag: str = "latest") -> None:
        """Raise InvalidReference unless `HOST/REPOSITORY:TAG` has exactly these parts."""
        expected = Reference(self.host, repository, tag, None)
        if parse_reference(f"{self.host}/{repository}:{tag}") != expected:
            raise InvalidReference("The name of the repository or tag is malformed.")

    def _first_page(self, path: str, repository: str) -> HttpResponse:
        """Request a list, with a smaller page size or none if the registry refuses the size."""
        for size in _PAGE_SIZES:
            response = self._request("GET", f"{path}?n={size}", repository)
            if not 400 <= response.status < 500 or response.status in {401, 403, 404, 405}:
                return response
        return self._request("GET", path, repository)

    def _read_names(
        self, first: HttpResponse, repository: str, read_page: Callable[[bytes], list[str] | None]
    ) -> list[str]:
        """Return the names on all pages of a list, in order.

        Raise RegistryError if the list cannot be read to its end.
        """
        self._require_success(first)
        names: dict[str, None] = {}
        requested: set[str] = set()
        response = first
        while True:
            page, known = read_page(response.body) or [], len(names)
            names.update((name[:_MAX_NAME], None) for name in page)
            if len(names) > _MAX_NAMES:
                raise RegistryError(f"the registry lists more than {_MAX_NAMES} names")
            next_path = self._find_next_link(response)
            # The link is optional, so a full page without one may not be the last. A registry that
            # ignores `last` repeats the page.
            if next_path is None and len(names) > known:
                next_path = _after_full_page(response.url, page)
            if next_path is None:
                return list(names)
            if next_path in requested or len(requested) + 1 == _MAX_PAGES:
                raise RegistryError(f"a list repeats a page or has more than {_MAX_PAGES} pages")
            requested.add(next_path)
            response = self._request("GET", next_path, repository)
            if response.status != 200:
                raise RegistryError(
                    f"a list is incomplete: its next page returned HTTP status {response.status}"
                )

    def _find_next_link(self, response: HttpResponse) -> str | None:
        """Return path and query of the next page, which is requested from the registry itself.

        Scheme and port of the link are ignored: behind a proxy, registries report internal ones.
        """
        link = find_next_link(response.headers.get("link", []))
        if link is None:
            return None
        parts = urlsplit(join_url(response.url, link))
        if parts.hostname != self._origin.host:
            raise RegistryError(f"the next page is on another host, {parts.hostname}")
        return f"{parts.path or '/'}?{parts.query}"

    def _request(
        self, method: str, path: str, repository: str, accept: str = "application/json"
    ) -> HttpResponse:
        def send() -> HttpResponse:
            headers = {"Accept": accept, **self._authenticator.headers(repository)}
            return self._transport.fetch(method, f"{self._base_url}{path}", headers)

        self._authenticator.prepare(repository)
        response = send()
        if response.status == 404 and self._authenticator.offer_credentials(repository):
            response = send()
        # After a redirect, a challenge of another host must not receive the credentials.
        if response.status == 401 and parse_origin(response.url) == self._origin:
            self._authenticator.handle_challenge(repository, response)
            response = send()
        return response

    def _is_missing(self, response: HttpResponse) -> bool:
        """Return whether the registry reports that a repository or a tag does not exist.

        Raise RegistryError for a 404 without that statement: of a proxy without a route to the
        registry, of a storage service after a redirect, or with the code of another error. Raise it
        also if the request lacked the credentials: registries hide private repositories by a 404.
        """
        if response.status != 404:
            return False
        origin = parse_origin(response.url)
        if origin != self._origin:
            raise RegistryError(f"{origin.host} returned HTTP status 404 after a redirect")
        if self._has_credentials and not response.is_authorized:
            raise RegistryError("the registry returned HTTP status 404 without authentication")
        codes: set[str] = set()
        with suppress(RegistryError):
            codes = {error.code for error in decode(response.body, ErrorDocument).errors}
        if not codes or codes - _MISSING_CODES:
            raise RegistryError(
                "the response with HTTP status 404 does not say that the repository or tag is "
                "unknown"
            )
        return True

    @property
    def _attempt(self) -> str:
        return "with these credentials" if self._has_credentials else "without credentials"

    def _require_success(self, response: HttpResponse) -> None:
        if response.status in {401, 403}:
            raise RegistryDenied(
                f"the registry denies access {self._attempt} (HTTP status {response.status})"
            )
        if response.status != 200:
            raise RegistryError(f"the registry returned HTTP status {response.status}")


def _reported_digest(response: HttpResponse) -> str | None:
    """Return the valid digest in a response's header; lines may repeat it."""
    digests = {part.strip() for part in response.header("docker-content-digest").split(",")}
    return parse_digest(digests.pop()) if len(digests) == 1 else None


def _compute_digest(body: bytes) -> str | None:
    """Return the digest of a manifest; None for other content, such as a login page.

    The digest of a manifest of schema 1 does not cover its signatures, so it is unknown.
    """
    try:
        manifest = decode(body, Manifest)
    except RegistryError:
        return None
    if manifest.schema_version == 2 or (manifest.schema_version == 0 and manifest.media_type):
        return f"sha256:{hashlib.sha256(body).hexdigest()}"
    return None


def _after_full_page(url: str, page: list[str]) -> str | None:
    """Return path and query of the page after a full one; None if it was not full.

    A shorter page is the last one. A longer one is of a registry that ignores the size.
    """
    parts = urlsplit(url)
    sizes = parse_qs(parts.query).get("n", [])
    if sizes != [str(len(page))]:
        return None
    return f"{parts.path}?{urlencode({'n': len(page), 'last': page[-1]})}"


def _select_image(descriptors: list[Descriptor]) -> Descriptor | None:
    # Attestations are listed among the images, with "unknown" as their platform.
    images = [item for item in descriptors if not item.platform or item.platform.os != "unknown"]
    preferred = [item for item in images if item.platform == Platform("linux", "amd64")]
    return next(iter([*preferred, *images]), None)
