"""Registry authentication: Basic and Bearer challenges."""

import re
import threading
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from harborguard.errors import RegistryDenied, RegistryError
from harborguard.oci.documents import Token, decode
from harborguard.oci.headers import parse_challenges
from harborguard.oci.transport import HttpResponse, Transport
from harborguard.oci.urls import parse_origin, resolve_url

_CATALOG_SCOPE = "registry:catalog:*"
_TOKEN = re.compile(r"[!-~]{1,16384}")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password or token for one registry."""

    username: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """The Authorization header of Basic authentication (RFC 7617)."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {b64encode(pair).decode()}"


class Authenticator:
    """Handle a registry's challenges and cache one Authorization header per repository.

    Credentials are sent only after a challenge or a 404, and only to the registry itself or to a
    token service of the same domain. With credentials, the first request is `/v2/`, whose challenge
    is handled for every repository. Other paths may respond 404 to anonymous requests.
    """

    def __init__(
        self, transport: Transport, base_url: str, credentials: Credentials | None
    ) -> None:
        self._transport = transport
        self._base_url = base_url
        self._origin = parse_origin(base_url)
        self._credentials = credentials
        self._authorizations: dict[str, str] = {}
        self._version_response: HttpResponse | None = None
        self._lock = threading.Lock()

    def prepare(self, repository: str) -> None:
        """Handle the challenge of `/v2/` for a repository, or for the catalog if it is "".

        Raise RegistryError as `handle_challenge` does. Do nothing without credentials, without a
        challenge, or if the repository has an authorization.
        """
        if self._credentials is None or repository in self._authorizations:
            return
        response = self._request_version()
        # After a redirect, a challenge of another host must not receive the credentials.
        if response.status == 401 and parse_origin(response.url) == self._origin:
            scope = f"repository:{repository}:pull" if repository else _CATALOG_SCOPE
            self.handle_challenge(repository, response, scope=scope)

    def _request_version(self) -> HttpResponse:
        """Return the response of `/v2/` to an anonymous request, which is sent once."""
        with self._lock:
            if self._version_response is None:
                url = f"{self._base_url}/v2/"
                self._version_response = self._transport.fetch("GET", url, {})
            return self._version_response

    def headers(self, repository: str) -> dict[str, str]:
        """Return the headers for a repository, or for the catalog if it is "".

        There are none before the first challenge.
        """
        authorization = self._authorizations.get(repository)
        return {"Authorization": authorization} if authorization else {}

    def offer_credentials(self, repository: str) -> bool:
        """Use Basic authentication for a repository; return False without credentials or a change.

        For registries that hide private repositories by a 404, without any challenge.
        """
        if self._credentials is None or repository in self._authorizations:
            return False
        self._authorizations[repository] = self._credentials.header
        return True

    def handle_challenge(
        self, repository: str, response: HttpResponse, *, scope: str | None = None
    ) -> None:
        """Obtain the authorization that a 401 response requires.

        `scope` replaces the scope of the challenge. A token is preferred, because it may be given
        without credentials. Raise RegistryError if no scheme of the response can be used, or if the
        token service returns no token.
        """
        challenges = parse_challenges(response.headers.get("www-authenticate", []))
        schemes = {challenge.scheme for challenge in challenges}
        bearer = [
            challenge.parameters
            for challenge in challenges
            if challenge.scheme == "bearer" and challenge.parameters.get("realm")
        ]
        if bearer:
            parameters = {**bearer[0], "scope": scope} if scope else bearer[0]
            token = self._fetch_token(response.url, parameters)
            self._authorizations[repository] = f"Bearer {token}"
        elif "basic" in schemes and self._credentials:
            self._authorizations[repository] = self._credentials.header
        elif "basic" in schemes:
            raise RegistryDenied("the registry requires a user name and a password")
        elif "bearer" in schemes:
            raise RegistryDenied("the registry requires a token, but names no token service")
        else:
            raise RegistryDenied(
                "the registry denies access (HTTP status 401) and offers neither Basic nor Bearer "
                "authentication"
            )

    def _fetch_token(self, url: str, challenge: dict[str, str]) -> str:
        """Request a token from the challenge's realm (registry token specification)."""
        realm = resolve_url(url, challenge.get("realm", ""))
        headers = {}
        if self._credentials:
            realm_host = parse_origin(realm).host
            if not shares_domain(self._origin.host, realm_host):
                raise RegistryError(
                    f"the token service {realm_host} belongs to another domain; "
                    "credentials are not sent there"
                )
            headers["Authorization"] = self._credentials.header
        response = self._transport.fetch("GET", _token_url(realm, challenge), headers)
        if response.status != 200:
            attempt = "with these credentials" if self._credentials else "without credentials"
            kind = RegistryDenied if response.status in {401, 403} else RegistryError
            raise kind(f"the token service returned HTTP status {response.status} {attempt}")
        document = decode(response.body, Token)
        token = document.token or document.access_token
        if not _TOKEN.fullmatch(token):
            raise RegistryError("the token service returned no valid token")
        return token


def shares_domain(registry_host: str, realm_host: str) -> bool:
    """Return whether a token service has the registry's host name or is below its domain.

    The domain is the registry's host name or, if that has three labels or more, its parent:
    `gitlab.com` for `registry.gitlab.com`. An IP address has no domain.
    """
    parent = registry_host.partition(".")[2]
    domains = [registry_host]
    if "." in parent and not _is_address(registry_host):
        domains.append(parent)
    return any(f".{realm_host}".endswith(f".{domain}") for domain in domains)


def _token_url(realm: str, challenge: dict[str, str]) -> str:
    parts = urlsplit(realm)
    parameters = [(name, challenge[name]) for name in ("service", "scope") if name in challenge]
    query = urlencode([*parse_qsl(parts.query), *parameters])
    return urlunsplit(parts._replace(query=query, fragment=""))


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdecimal()
