"""Connections that keep to a deadline, and to the border."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPResponse
from io import BufferedReader, RawIOBase
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

MAX_CONNECTIONS = 4

Check = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a registry may take (seconds), how much it may say (bytes), how often it is asked.

    `connect` and `read` are for one step, `whole` for a whole answer, which a server that drips
    could otherwise draw out for ever. `pauses` lie between the attempts; a longer `Retry-After`
    is kept, up to `retry_after`.
    """

    connect: float = 5
    read: float = 20
    whole: float = 60
    body: int = 4 << 20
    pauses: tuple[float, ...] = (0.5, 1, 2)
    retry_after: float = 30


def make_pools(limits: Limits, may_call: Check) -> PoolManager:
    """Pools of connections, each checked (host, address) before anything is sent on it."""

    class Response(_TimedResponse):
        read_seconds, whole_seconds = limits.read, limits.whole

    class Plain(_Checked, HTTPConnection):
        response_class = Response
        check = staticmethod(may_call)

    class Secure(_Checked, HTTPSConnection):
        response_class = Response
        check = staticmethod(may_call)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain  # pyright: ignore[reportAssignmentType]

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure  # pyright: ignore[reportAssignmentType]

    pools = PoolManager(maxsize=MAX_CONNECTIONS)
    pools.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return pools


class _Checked(HTTPConnection):
    check: Check

    def _new_conn(self) -> socket.socket:
        # First what the name says, so that nothing inside is even knocked at; then who answered,
        # as a name may say something else the second time.
        for address in _resolve(self.host, self.port):
            self.check(self.host, address)
        sock = super()._new_conn()
        try:
            self.check(self.host, sock.getpeername()[0])
        except BaseException:
            sock.close()
            raise
        return sock


class _TimedResponse(HTTPResponse):
    read_seconds: float
    whole_seconds: float

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = BufferedReader(_Timed(sock, self.read_seconds, self.whole_seconds))


class _Timed(RawIOBase):
    """What a socket receives; TimeoutError once a read, or all of them, took too long."""

    def __init__(self, sock: socket.socket, read_seconds: float, whole_seconds: float) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)
        self._read_seconds = read_seconds
        self._end = time.monotonic() + whole_seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        self._sock.settimeout(min(left, self._read_seconds))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _resolve(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []  # connecting fails in the same way, and says so
    return [str(address[0]) for *_, address in found]
