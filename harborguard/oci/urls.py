"""URLs that a registry refers to in headers and challenges."""

import re
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit, urlunsplit

from urllib3.util import parse_url

from harborguard.errors import RegistryError

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


class Origin(NamedTuple):
    """Scheme, host and port: the scope of an Authorization header (RFC 6454)."""

    scheme: str
    host: str
    port: int

    @property
    def host_header(self) -> str:
        """The value of the Host header (RFC 9110, 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_origin(url: str) -> Origin:
    """Return the origin of an http or https URL.

    Raise RegistryError for other schemes, malformed hosts or ports, and user information.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        raise RegistryError("the registry refers to a malformed URL") from None
    if port is None or parts.scheme not in _DEFAULT_PORTS or "@" in parts.netloc:
        raise RegistryError(
            "the registry refers to a URL that is not http or https, or that has user information"
        )
    if not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise RegistryError("the registry refers to a URL with a malformed host")
    return Origin(parts.scheme, parts.hostname, port)


def join_url(base: str, reference: str) -> str:
    """Return the absolute URL of a reference found in the response from `base`.

    Raise RegistryError if it is malformed or not http or https.
    """
    try:
        url = urljoin(base, reference)
    except ValueError:
        raise RegistryError("the registry refers to a malformed URL") from None
    parse_origin(url)
    return url


def resolve_url(base: str, reference: str) -> str:
    """Return the absolute URL of a reference, which never leads from https to http.

    Behind a proxy with TLS, a registry may refer to itself by http. A reference to http at the same
    host, and at the same or the default port, is therefore read as one to `base`'s origin. Raise
    RegistryError for other references to http, and if the reference is malformed.
    """
    url = join_url(base, reference)
    target, origin = parse_origin(url), parse_origin(base)
    if target.scheme == "https" or origin.scheme == "http":
        return url
    if target.host == origin.host and target.port in {origin.port, _DEFAULT_PORTS["http"]}:
        return urlunsplit(urlsplit(url)._replace(scheme="https", netloc=origin.host_header))
    raise RegistryError(f"the registry refers from https to http ({target.host})")


def request_target(url: str) -> str:
    """Return the path and query of a URL, percent-encoded for the request line."""
    return parse_url(url).request_uri
