"""Registry client: repositories, tags, digests and build times."""

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import urlsplit

from harborguard.errors import RegistryError
from harborguard.image_config import parse_build_time
from harborguard.oci.auth import Authenticator, Credentials
from harborguard.oci.connections import Limits
from harborguard.oci.documents import Catalog, Descriptor, Manifest, Platform, Tags, decode
from harborguard.oci.transport import HttpResponse, Transport
from harborguard.oci.urls import parse_origin, resolve_url
from harborguard.references import parse_digest, parse_reference

_API_HOSTS = {"docker.io": "registry-1.docker.io"}
_PAGE_SIZE = 1000
_MAX_PAGES = 1000
_MAX_NAMES = 200_000
_ACCEPT_MANIFESTS = ", ".join(
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]
)
_IMAGE_CONFIG_TYPES = {
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
}
_NEXT_LINK = re.compile(r'<([^<>]*)>\s*;[^,<>]*\brel="?next\b', re.IGNORECASE)
# Tags of signatures and attestations: the specification's referrers tag schema, and cosign's.
_REFERRERS_TAG = re.compile(r"sha(256|512)-[0-9a-f]{64,128}(\.\w+)?")


class RegistryClient:
    """Client of one registry. Close it when done. Threads may share it.

    Every method raises RegistryError if a response is unusable, and its subclass
    RegistryUnavailable if the registry is unreachable, overloaded or broken.
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
        self._authenticator = Authenticator(self._transport, self._origin.host, credentials)

    def close(self) -> None:
        """Close the connections. Requests in other threads fail at their next attempt."""
        self._transport.close()

    def list_repositories(self) -> list[str]:
        """Return the paths of all repositories (Docker's /v2/_catalog)."""
        if self.host == "docker.io":
            raise RegistryError("Docker Hub does not list its repositories")
        names: dict[str, None] = {}
        for response in self._iter_pages(f"/v2/_catalog?n={_PAGE_SIZE}", ""):
            if response.status in {401, 403, 404, 405}:
                raise RegistryError(
                    f"the registry does not list its repositories (HTTP status {response.status})"
                )
            _require_success(response)
            _add_names(names, decode(response.body, Catalog).repositories)
        return list(names)

    def list_tags(self, repository: str) -> list[str]:
        """Return a repository's tags without those of signatures; none if it does not exist.

        Raise InvalidReference for a malformed repository or tag.
        """
        path = parse_reference(f"{self.host}/{repository}").repository
        names: dict[str, None] = {}
        for response in self._iter_pages(f"/v2/{path}/tags/list?n={_PAGE_SIZE}", path):
            if response.status == 404:
                break
            _require_success(response)
            _add_names(names, decode(response.body, Tags).tags)
        for name in names:
            parse_reference(f"{self.host}/{repository}:{name}")
        return [name for name in names if not _REFERRERS_TAG.fullmatch(name)]

    def find_digest(self, repository: str, tag: str) -> str | None:
        """Return the digest of a tag's manifest or index; None if the tag does not exist."""
        path = f"/v2/{repository}/manifests/{tag}"
        response = self._request("HEAD", path, repository, _ACCEPT_MANIFESTS)
        digest = response.headers.get("docker-content-digest")
        if response.status == 405 or (response.status == 200 and digest is None):
            response = self._request("GET", path, repository, _ACCEPT_MANIFESTS)
            digest = f"sha256:{hashlib.sha256(response.body).hexdigest()}"
        if response.status == 404:
            return None
        _require_success(response)
        parsed = parse_digest(digest)
        if parsed is None:
            raise RegistryError(f"the digest of tag {tag} is malformed")
        return parsed

    def find_build_time(self, repository: str, digest: str) -> datetime | None:
        """Return when a manifest's image was built, from its configuration; None if unknown.

        The build time of an index is that of its image for linux/amd64, or else its first image.
        """
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
        _require_success(response)
        algorithm, _, expected = parsed.partition(":")
        if hashlib.new(algorithm, response.body).hexdigest() != expected:
            raise RegistryError(f"the content does not match its digest {parsed}")
        return response.body

    def _iter_pages(self, path: str, repository: str) -> Iterator[HttpResponse]:
        requested: set[str] = set()
        next_path: str | None = path
        while next_path:
            if next_path in requested or len(requested) == _MAX_PAGES:
                raise RegistryError(f"a list repeats a page or has more than {_MAX_PAGES} pages")
            requested.add(next_path)
            response = self._request("GET", next_path, repository)
            yield response
            next_path = self._next_path(response)

    def _next_path(self, response: HttpResponse) -> str | None:
        link = _NEXT_LINK.search(response.headers.get("link", ""))
        if link is None:
            return None
        url = resolve_url(response.url, link[1])
        origin = parse_origin(url)
        if origin != self._origin:
            raise RegistryError(f"the next page is on another host, {origin.host}")
        parts = urlsplit(url)
        return f"{parts.path}?{parts.query}"

    def _request(
        self, method: str, path: str, repository: str, accept: str = "application/json"
    ) -> HttpResponse:
        def send() -> HttpResponse:
            headers = {"Accept": accept, **self._authenticator.headers(repository)}
            return self._transport.fetch(method, f"{self._base_url}{path}", headers)

        response = send()
        # After a redirect, a challenge of another host must not receive the credentials.
        if response.status == 401 and parse_origin(response.url) == self._origin:
            self._authenticator.handle_challenge(repository, response)
            response = send()
        return response


def _require_success(response: HttpResponse) -> None:
    if response.status in {401, 403}:
        raise RegistryError(
            f"the registry denies access with these credentials (HTTP status {response.status})"
        )
    if response.status != 200:
        raise RegistryError(f"the registry returned HTTP status {response.status}")


def _add_names(names: dict[str, None], page: list[str] | None) -> None:
    names.update(dict.fromkeys(page or ()))
    if len(names) > _MAX_NAMES:
        raise RegistryError(f"the registry lists more than {_MAX_NAMES} names")


def _select_image(descriptors: list[Descriptor]) -> Descriptor | None:
    # Attestations are listed among the images, with "unknown" as their platform.
    images = [item for item in descriptors if not item.platform or item.platform.os != "unknown"]
    preferred = [item for item in images if item.platform == Platform("linux", "amd64")]
    return next(iter([*preferred, *images]), None)
