"""Connections to checked addresses, with time limits and reuse."""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.errors import FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect
from functools import cached_property

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError

from harborguard.errors import RegistryUnavailable
from harborguard.oci.addresses import RedirectPolicy
from harborguard.oci.urls import Origin

MAX_CONNECTIONS = 4
# Idle connections to keep, over all origins: to the registry and to its blob storage.
_MAX_IDLE = 2 * MAX_CONNECTIONS
_HEADER_DEFECTS = (FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a request: times in seconds, the body in bytes.

    `connect` limits the TCP connection and the TLS handshake separately. `read` limits one read
    from the socket. `total` limits the time from the request to the end of the response; without
    it, a server that sends single bytes could extend a response forever.

    `pauses` are the waits between attempts. A longer `Retry-After` replaces a pause, up to
    `retry_after`.
    """

    connect: float = 5
    read: float = 20
    total: float = 60
    body: int = 4 << 20
    pauses: tuple[float, ...] = (0.5, 1, 2)
    retry_after: float = 30


class StrictResponse(http.client.HTTPResponse):
    """Response whose header is complete.

    At a line without a colon the standard library ends the header, and urllib3 only logs it. The
    lines after it are lost, and with them the link to the next page of a list.
    """

    def begin(self) -> None:
        """Read the header. Raise HTTPException if a line is malformed."""
        super().begin()
        if any(isinstance(defect, _HEADER_DEFECTS) for defect in self.msg.defects):
            raise http.client.HTTPException("malformed header line")


class ConnectionPool:
    """Reusable HTTP connections to policy-checked addresses. Threads may share it.

    Each new connection resolves its host once, checks every address and connects to an allowed
    one. A DNS record that changes in between has no effect. TLS certificates are
    verified against the host name. Proxies from the environment are not used.
    """

    def __init__(self, policy: RedirectPolicy, limits: Limits) -> None:
        self._policy = policy
        self._limits = limits
        self._lock = threading.Lock()
        self._idle: list[tuple[Origin, HTTPConnection]] = []
        self._is_closed = False

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # Reading the system's certificates takes longer than a request; http does not need them.
        return ssl.create_default_context()

    def close(self) -> None:
        """Close idle connections now, and those in use when they are returned."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    @contextmanager
    def checkout(self, origin: Origin) -> Iterator[HTTPConnection]:
        """Yield an open connection, idle or new, and keep it afterwards if it is reusable.

        Raise RegistryError if the policy forbids all addresses of the registry, or one of another
        host, RegistryUnavailable if the host has no address, and what urllib3 or ssl raise if no
        address accepts a connection.
        """
        connection = self._take_idle(origin) or self._connect(origin)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._return(origin, connection)

    def _take_idle(self, origin: Origin) -> HTTPConnection | None:
        while True:
            with self._lock:
                indexes = [index for index, (key, _) in enumerate(self._idle) if key == origin]
                if not indexes:
                    return None
                _, connection = self._idle.pop(indexes[-1])
            if connection.is_connected:
                return connection
            connection.close()

    def _return(self, origin: Origin, connection: HTTPConnection) -> None:
        discarded = [connection]
        if connection.is_connected:
            with self._lock:
                if not self._is_closed:
                    self._idle.append((origin, connection))
                    discarded = [idle for _, idle in self._idle[:-_MAX_IDLE]]
                    del self._idle[:-_MAX_IDLE]
        for unused in discarded:
            unused.close()

    def _connect(self, origin: Origin) -> HTTPConnection:
        """Connect to the first allowed address that accepts, in the resolver's order."""
        addresses = self._policy.allowed(origin.host, _resolve_host(origin))
        for address in addresses[:-1]:
            # NewConnectionError, for a refused connection, is a subclass of ConnectTimeoutError.
            with suppress(ConnectTimeoutError):
                return self._connect_to(origin, address)
        return self._connect_to(origin, addresses[-1])

    def _connect_to(self, origin: Origin, address: str) -> HTTPConnection:
        limits = self._limits
        if origin.scheme == "https":
            connection = HTTPSConnection(
                address,
                origin.port,
                timeout=limits.connect,
                ssl_context=self._tls,
                server_hostname=origin.host,
            )
        else:
            connection = HTTPConnection(address, origin.port, timeout=limits.connect)
        connection.response_class = StrictResponse
        try:
            connection.connect()
            self._policy.note_connection(origin.host, address)
        except BaseException:
            connection.close()
            raise
        connection.timeout = limits.read
        return connection


@contextmanager
def deadline(connection: HTTPConnection, seconds: float) -> Iterator[None]:
    """Raise TimeoutError if the block takes longer than `seconds`; shut the socket down then.

    A socket timeout limits single reads only. Shutting the socket down from a timer thread also
    interrupts a read in progress, wherever the response is: status line, headers or body.
    """
    sock = connection.sock
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        with suppress(OSError):
            # SSLSocket.shutdown() would drop the TLS state that the reading thread uses.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if expired.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
    # The shutdown looks like the end of the body if the response has no length.
    if expired.is_set():
        raise TimeoutError


def _resolve_host(origin: Origin) -> list[str]:
    try:
        found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise RegistryUnavailable(
            f"{origin.host} cannot be reached: its name does not resolve"
        ) from error
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
