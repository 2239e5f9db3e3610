"""A registry, asked by the OCI distribution specification: catalog, tags, digests, build times."""

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
from harborguard.oci.transport import HttpResponse, Transport, origin, resolve
from harborguard.references import parse_digest, parse_reference

_API_HOSTS = {"docker.io": "registry-1.docker.io"}
_PAGE = 1000
_MAX_PAGES = 1000
_MAX_NAMES = 200_000
_MANIFESTS = ", ".join(
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]
)
_IMAGE_CONFIGS = {
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
}
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,<>]*\brel="?next\b', re.IGNORECASE)
# Tags that name no image but what belongs to one: the specification's referrers, cosign's files.
_ATTACHED = re.compile(r"sha(256|512)-[0-9a-f]{64,128}(\.\w+)?")


class RegistryClient:
    """A registry's repositories and their tags.

    Every method raises RegistryError for what it cannot use, and RegistryUnavailable (one of
    those) for a registry that is silent, overloaded or broken. Close it when done.
    """

    def __init__(
        self,
        host: str,
        *,
        credentials: Credentials | None = None,
        is_plain: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self.host = host
        self._base = f"{'http' if is_plain else 'https'}://{_API_HOSTS.get(host, host)}"
        home = origin(self._base).host
        self._transport = Transport(home, limits or Limits())
        self._authenticator = Authenticator(self._transport, home, credentials)

    def close(self) -> None:
        """Ends the connections, also those that other threads still use."""
        self._transport.close()

    def list_repositories(self) -> list[str]:
        """All repositories as the registry names them (Docker's /v2/_catalog)."""
        if self.host == "docker.io":
            raise RegistryError("Docker Hub does not list its repositories")
        names: dict[str, None] = {}
        for answer in self._pages(f"/v2/_catalog?n={_PAGE}", ""):
            if answer.status in {401, 403, 404, 405}:
                raise RegistryError(f"it does not list its repositories ({answer.status})")
            _expect(answer)
            _extend(names, decode(answer.body, Catalog).repositories)
        return list(names)

    def list_tags(self, repository: str) -> list[str]:
        """A repository's tags that name images; none for a repository that is not there.

        (Distribution specification, "listing tags".) InvalidReference for malformed names.
        """
        path = parse_reference(f"{self.host}/{repository}").repository
        names: dict[str, None] = {}
        for answer in self._pages(f"/v2/{path}/tags/list?n={_PAGE}", path):
            if answer.status == 404:
                break
            _expect(answer)
            _extend(names, decode(answer.body, Tags).tags)
        for name in names:
            parse_reference(f"{self.host}/{repository}:{name}")
        return [name for name in names if not _ATTACHED.fullmatch(name)]

    def find_digest(self, repository: str, tag: str) -> str | None:
        """The digest of a tag's manifest or index; None where the tag is gone meanwhile."""
        answer = self._ask("HEAD", f"/v2/{repository}/manifests/{tag}", repository, _MANIFESTS)
        told = answer.headers.get("docker-content-digest")
        if answer.status == 405 or (answer.status == 200 and told is None):
            answer = self._ask("GET", f"/v2/{repository}/manifests/{tag}", repository, _MANIFESTS)
            told = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        if answer.status == 404:
            return None
        _expect(answer)
        digest = parse_digest(told)
        if digest is None:
            raise RegistryError(f"the digest of tag {tag} is malformed")
        return digest

    def find_build_time(self, repository: str, digest: str) -> datetime | None:
        """When a manifest's image was built, by its configuration; None where nothing tells.

        Of an index, the image for linux/amd64 counts, else the first for a platform.
        """
        manifest = self._find_manifest(repository, digest)
        if manifest and manifest.manifests:
            chosen = _choose(manifest.manifests)
            manifest = self._find_manifest(repository, chosen.digest) if chosen else None
        config = manifest and manifest.config
        if not config or config.media_type not in _IMAGE_CONFIGS:
            return None
        body = self._find_content(repository, "blobs", config.digest)
        return parse_build_time(body) if body else None

    def _find_manifest(self, repository: str, digest: str) -> Manifest | None:
        body = self._find_content(repository, "manifests", digest)
        return decode(body, Manifest) if body else None

    def _find_content(self, repository: str, kind: str, told: str) -> bytes | None:
        digest = parse_digest(told)
        if digest is None:
            raise RegistryError("it refers to a malformed digest")
        answer = self._ask("GET", f"/v2/{repository}/{kind}/{digest}", repository, _MANIFESTS)
        if answer.status == 404:
            return None
        _expect(answer)
        algorithm, _, expected = digest.partition(":")
        if hashlib.new(algorithm, answer.body).hexdigest() != expected:
            raise RegistryError(f"the content of {digest} has another digest")
        return answer.body

    def _pages(self, path: str, scope: str) -> Iterator[HttpResponse]:
        seen: set[str] = set()
        following: str | None = path
        while following:
            if following in seen or len(seen) == _MAX_PAGES:
                raise RegistryError("its pages go on without end")
            seen.add(following)
            answer = self._ask("GET", following, scope)
            yield answer
            following = self._next_path(answer)

    def _next_path(self, answer: HttpResponse) -> str | None:
        link = _NEXT.search(answer.headers.get("link", ""))
        if link is None:
            return None
        target = resolve(answer.url, link[1])
        if origin(target) != origin(self._base):
            raise RegistryError(f"its next page is on another host, {origin(target).host}")
        parts = urlsplit(target)
        return f"{parts.path}?{parts.query}"

    def _ask(
        self, method: str, path: str, scope: str, accept: str = "application/json"
    ) -> HttpResponse:
        def ask() -> HttpResponse:
            headers = {"Accept": accept, **self._authenticator.headers(scope)}
            return self._transport.fetch(method, f"{self._base}{path}", headers)

        answer = ask()
        # What another host refuses, after a redirect, is not for the registry's credentials.
        if answer.status == 401 and origin(answer.url) == origin(self._base):
            self._authenticator.handle_challenge(scope, answer)
            answer = ask()
        return answer


def _expect(answer: HttpResponse) -> None:
    if answer.status in {401, 403}:
        raise RegistryError(f"it refuses these credentials, or none ({answer.status})")
    if answer.status != 200:
        raise RegistryError(f"it answered {answer.status}")


def _extend(names: dict[str, None], page: list[str] | None) -> None:
    names.update(dict.fromkeys(page or ()))
    if len(names) > _MAX_NAMES:
        raise RegistryError(f"it lists more than {_MAX_NAMES} names")


def _choose(listed: list[Descriptor]) -> Descriptor | None:
    # Attestations are listed among the images, for a platform that is "unknown".
    images = [item for item in listed if not item.platform or item.platform.os != "unknown"]
    preferred = [item for item in images if item.platform == Platform("linux", "amd64")]
    return next(iter([*preferred, *images]), None)
