"""GET and HEAD requests with redirects, retries and limits."""

import ssl
import threading
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError, NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as Urllib3Timeout

from harborguard.errors import RegistryError, RegistryUnavailable
from harborguard.oci.addresses import RedirectPolicy
from harborguard.oci.connections import ConnectionPool, Limits, deadline
from harborguard.oci.urls import parse_origin, request_target, resolve_url

_RETRY_STATUSES = {429, 500, 502, 503, 504}
_REDIRECT_STATUSES = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 5
_USER_AGENT = "harborguard-images"


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete response, and the URL it came from after redirects.

    `is_authorized` is whether the last request had an Authorization header, which a redirect to
    another origin drops.
    """

    url: str
    status: int
    is_authorized: bool
    headers: dict[str, list[str]]  # the values of a header's lines, by lower-case name
    body: bytes

    def header(self, name: str) -> str:
        """Return the header's distinct values, joined by commas."""
        return ", ".join(dict.fromkeys(self.headers.get(name, ())))


class Transport:
    """HTTP requests limited in time, size, redirects and attempts. Threads may share it."""

    def __init__(self, registry_host: str, limits: Limits) -> None:
        self._limits = limits
        self._connections = ConnectionPool(RedirectPolicy(registry_host), limits)
        self._closed = threading.Event()

    def close(self) -> None:
        """Close the connections. Requests in other threads fail at their next attempt."""
        self._closed.set()
        self._connections.close()

    def fetch(self, method: str, url: str, headers: dict[str, str]) -> HttpResponse:
        """Send a GET or HEAD request and return the response; retry temporary failures.

        Raise RegistryUnavailable if the last attempt times out, fails to connect or returns 429
        or 5xx. Raise RegistryError for a redirect that is not followed and a body that is too
        large.
        """
        for pause in self._limits.pauses:
            try:
                response = self._follow_redirects(method, url, headers)
                if response.status not in _RETRY_STATUSES:
                    return response
                wait = max(pause, min(_retry_after(response), self._limits.retry_after))
            except RegistryUnavailable:
                wait = pause
            self._closed.wait(wait)
        response = self._follow_redirects(method, url, headers)
        if response.status in _RETRY_STATUSES:
            host = parse_origin(response.url).host
            raise RegistryUnavailable(f"{host} returned HTTP status {response.status}")
        return response

    def _follow_redirects(self, method: str, url: str, headers: dict[str, str]) -> HttpResponse:
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._send(method, url, headers)
            location = response.header("location")
            if response.status not in _REDIRECT_STATUSES or not location:
                return response
            target = resolve_url(url, location)
            if parse_origin(target) != parse_origin(url):
                headers = {name: headers[name] for name in headers if name != "Authorization"}
            url = target
        raise RegistryError(f"the registry redirects more than {_MAX_REDIRECTS} times")

    def _send(self, method: str, url: str, headers: dict[str, str]) -> HttpResponse:
        if self._closed.is_set():
            raise RegistryError("the registry client is closed")
        origin = parse_origin(url)
        try:
            with (
                self._connections.checkout(origin) as connection,
                deadline(connection, self._limits.total),
            ):
                connection.request(
                    method,
                    request_target(url),
                    headers={"Host": origin.host_header, "User-Agent": _USER_AGENT, **headers},
                    preload_content=False,
                    decode_content=False,
                )
                response = connection.getresponse()
                body = self._read_body(response)
        except (ssl.SSLError, SSLError) as error:
            raise RegistryError(f"the TLS connection to {origin.host} failed: {error}") from error
        except (HTTPError, HTTPException, OSError) as error:
            raise RegistryUnavailable(f"{origin.host} {_describe_failure(error)}") from error
        lines: dict[str, list[str]] = {}
        for name, value in response.headers.items():
            lines.setdefault(name.lower(), []).append(value)
        return HttpResponse(url, response.status, "Authorization" in headers, lines, body)

    def _read_body(self, response: BaseHTTPResponse) -> bytes:
        body = bytearray()
        while part := response.read(self._limits.body + 1 - len(body)):
            body += part
        if len(body) > self._limits.body:
            raise RegistryError(f"a response has more than {self._limits.body} bytes")
        return bytes(body)


def _retry_after(response: HttpResponse) -> float:
    """Return the Retry-After header in seconds (RFC 9110, 10.2.3); 0 if missing or malformed."""
    value = response.header("retry-after")
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    try:
        return parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0


def _describe_failure(error: Exception) -> str:
    # urllib3's NewConnectionError, for a refused connection, is a subclass of its TimeoutError.
    is_timeout = isinstance(error, (TimeoutError, Urllib3Timeout))
    if is_timeout and not isinstance(error, NewConnectionError):
        return "did not respond in time"
    if isinstance(error, HTTPException) and not isinstance(error, OSError):
        return f"sent a malformed response ({type(error).__name__})"
    return f"cannot be reached ({type(error).__name__})"
