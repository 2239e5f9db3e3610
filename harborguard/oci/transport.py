"""One request to a registry, or where it sends its caller: redirects, retries, bounds."""

import threading
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

from urllib3 import BaseHTTPResponse, Timeout
from urllib3.exceptions import HTTPError, NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as Urllib3Timeout

from harborguard.errors import RegistryError, RegistryUnavailable
from harborguard.oci.addresses import RedirectPolicy
from harborguard.oci.connections import Limits, make_pools

_AGAIN = {429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 5
_AGENT = "harborguard-images"


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What came back in the end, and from where."""

    url: str
    status: int
    headers: dict[str, str]  # by lower-case name
    body: bytes


class Origin(NamedTuple):
    """To whom a header with a secret belongs (RFC 6454)."""

    scheme: str
    host: str
    port: int


class Transport:
    """Requests that end: bounded in time, size, redirects and attempts; threads may share it."""

    def __init__(self, home: str, limits: Limits) -> None:
        self._limits = limits
        self._pools = make_pools(limits, RedirectPolicy(home).check)
        self._timeout = Timeout(connect=limits.connect, read=limits.read)
        self._closed = threading.Event()

    def close(self) -> None:
        """Ends the connections; whoever is still asking gets an error at the next step."""
        self._closed.set()
        self._pools.clear()

    def fetch(self, method: str, url: str, headers: dict[str, str]) -> HttpResponse:
        """The answer to a GET or HEAD, asked again where the trouble may pass.

        Raises RegistryUnavailable for silence, 429 and 5xx to the last, RegistryError for
        redirects that are not followed and for a body above the limit.
        """
        for pause in self._limits.pauses:
            try:
                answer = self._follow(method, url, headers)
                if answer.status not in _AGAIN:
                    return answer
                wait = max(pause, min(_retry_after(answer), self._limits.retry_after))
            except RegistryUnavailable:
                wait = pause
            self._closed.wait(wait)
        answer = self._follow(method, url, headers)
        if answer.status in _AGAIN:
            raise RegistryUnavailable(f"{origin(answer.url).host} answered {answer.status}")
        return answer

    def _follow(self, method: str, url: str, headers: dict[str, str]) -> HttpResponse:
        for _ in range(_MAX_REDIRECTS + 1):
            answer = self._send(method, url, headers)
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or not location:
                return answer
            target = resolve(url, location)
            if origin(target) != origin(url):
                headers = {name: headers[name] for name in headers if name != "Authorization"}
            url = target
        raise RegistryError("it redirects without end")

    def _send(self, method: str, url: str, headers: dict[str, str]) -> HttpResponse:
        if self._closed.is_set():
            raise RegistryError("the work was stopped")
        try:
            response = self._pools.urlopen(
                method,
                url,
                headers={"User-Agent": _AGENT, **headers},
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=self._timeout,
            )
            body = self._read(response)
        except SSLError as error:
            raise RegistryError(f"{origin(url).host} cannot be trusted: {error}") from error
        except HTTPError as error:
            raise RegistryUnavailable(f"{origin(url).host} {_trouble(error)}") from error
        named = {name.lower(): value for name, value in response.headers.items()}
        return HttpResponse(url, response.status, named, body)

    def _read(self, response: BaseHTTPResponse) -> bytes:
        body = bytearray()
        try:
            while part := response.read(self._limits.body + 1 - len(body)):
                body += part
        except BaseException:
            response.close()
            raise
        if len(body) > self._limits.body:
            response.close()
            raise RegistryError(f"an answer has more than {self._limits.body} bytes")
        return bytes(body)


def origin(url: str) -> Origin:
    """A URL's scheme, host and port; RegistryError for one that is not plainly of HTTP."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        raise RegistryError("it names a malformed URL") from None
    if port is None or not parts.hostname or _has_userinfo(parts):
        raise RegistryError("it names a URL that is not one of HTTP with a host alone")
    return Origin(parts.scheme, parts.hostname, port)


def resolve(url: str, reference: str) -> str:
    """The URL that an answer from `url` refers to; RegistryError where it leads out of TLS."""
    try:
        target = urljoin(url, reference)
    except ValueError:
        raise RegistryError("it names a malformed URL") from None
    if origin(target).scheme != "https" and origin(url).scheme == "https":
        raise RegistryError(f"it sends from https to http ({origin(target).host})")
    return target


def _has_userinfo(parts: SplitResult) -> bool:
    return "@" in parts.netloc


def _retry_after(answer: HttpResponse) -> float:
    """Seconds (RFC 9110, 10.2.3); 0 where nothing usable is told."""
    told = answer.headers.get("retry-after", "")
    if told.isascii() and told.isdecimal():
        return float(told[:9])
    try:
        return parsedate_to_datetime(told).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0


def _trouble(error: HTTPError) -> str:
    # The library counts a refused connection among the timeouts.
    if isinstance(error, Urllib3Timeout) and not isinstance(error, NewConnectionError):
        return "did not answer in time"
    return f"cannot be reached ({type(error).__name__})"
