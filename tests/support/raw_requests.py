"""Malformed and unusual requests, as bytes."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

HEAD = b"GET /api/images HTTP/1.1\r\nHost: x\r\n"
REQUESTS: dict[str, bytes] = {
    "nonsense": b"nonsense\r\n\r\n",
    "empty line first": b"\r\n\r\nGET /api/images HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "no version": b"GET\r\n\r\n",
    "version 9.9": b"GET /api/images HTTP/9.9\r\nHost: x\r\n\r\n",
    "version 2 in clear": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS hello": bytes.fromhex("16030100c8010000c40303") + b"\x00" * 60 + b"\r\n\r\n",
    "NUL in the path": b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    "space in the path": b"GET /api/im ages HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "bad escape": b"GET /api/%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "encoded NUL": b"GET /api/images%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "above the root": b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "double slash": b"GET //api//images HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n",
    "the error page itself": b"GET /.error HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "whole URI": b"GET http://evil.test/api/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "CONNECT": b"CONNECT evil.test:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "TRACE": b"TRACE /api/images HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "unknown method": b"BREW /api/images HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "lower-case method": b"get /api/images HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "method of symbols": b"!@# /api/images HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "DELETE": b"DELETE /api/images HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "no host": b"GET /api/nothing HTTP/1.1\r\nConnection: close\r\n\r\n",
    "two hosts": b"GET /api/nothing HTTP/1.1\r\nHost: x\r\nHost: y\r\nConnection: close\r\n\r\n",
    "host with an empty label": b"GET /api/nothing HTTP/1.1\r\nHost: a..b\r\nConnection: close\r\n\r\n",
    "bad host": b"GET /api/nothing HTTP/1.1\r\nHost: x/../y\r\nConnection: close\r\n\r\n",
    "header without a colon": HEAD + b"nonsense\r\n\r\n",
    "header with a NUL": HEAD + b"X-API-Key: a\x00b\r\nConnection: close\r\n\r\n",
    "header with a control byte": HEAD + b"X-API-Key: a\x01b\r\nConnection: close\r\n\r\n",
    "folded header": HEAD + b"X-API-Key: a\r\n b\r\nConnection: close\r\n\r\n",
    "space before the colon": HEAD + b"X-API-Key : a\r\nConnection: close\r\n\r\n",
    "bytes in a header": HEAD + b"X-API-Key: \xff\xfe\r\nConnection: close\r\n\r\n",
    "40 KB of header": HEAD + b"X-API-Key: " + b"k" * 40_000 + b"\r\nConnection: close\r\n\r\n",
    "200 headers": HEAD + b"X-A: a\r\n" * 200 + b"Connection: close\r\n\r\n",
    "140 KB of headers": HEAD + (b"X-A: " + b"a" * 1000 + b"\r\n") * 140 + b"\r\n",
    "40 KB of query": b"GET /api/images?search=" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "length of two": HEAD + b"Content-Length: 1, 1\r\n\r\nx",
    "length twice": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "length with a sign": HEAD + b"Content-Length: +5\r\n\r\nxxxxx",
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n",
    "endless length": HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "a body beyond the limit": b"POST /api/images HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\nConnection: close\r\n\r\n",
    "length and chunks": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "odd coding": b"POST /api/images HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: odd\r\n\r\n",
    "coding twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": b"POST /api/images HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "line feeds alone": b"GET /api/images HTTP/1.1\nHost: x\nConnection: close\n\n",
    "unmet expectation": b"POST /api/images HTTP/1.1\r\nHost: x\r\nExpect: odd\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "contradictory schemes": HEAD + b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\nConnection: close\r\n\r\n",
    "moved application": HEAD + b"SCRIPT_NAME: /api\r\nScript-Name: /api\r\nConnection: close\r\n\r\n",
    "range": HEAD + b"Range: bytes=9-1\r\nConnection: close\r\n\r\n",
    "condition on a file": b'GET /api/docs HTTP/1.1\r\nHost: x\r\nIf-Match: "x"\r\nConnection: close\r\n\r\n',
    "range of a file": b"GET /api/docs HTTP/1.1\r\nHost: x\r\nRange: bytes=9-1\r\nConnection: close\r\n\r\n",
    "stale condition": HEAD + b'If-Match: "x"\r\nConnection: close\r\n\r\n',
}  # fmt: skip


@dataclass(frozen=True)
class Reply:
    """The bytes of a response, and what is wrong with them."""

    received: bytes

    @property
    def status(self) -> int:
        """Return the status, or 0 if the connection was closed without a response."""
        first = self.received.split(b"\r\n", 1)[0].split()
        return int(first[1]) if len(first) > 1 and first[0].startswith(b"HTTP/") else 0

    @property
    def problem(self) -> str:
        """Return a problem, or an empty text for a success, an error in the envelope or a close."""
        if 0 <= self.status < 400 and (self.status or not self.received):
            return ""
        head, _, body = self.received.partition(b"\r\n\r\n")
        if b"content-type: application/json" not in head.lower():
            return f"no JSON: {self.received[:200]!r}"
        try:
            error = json.loads(body)["error"]
        except (ValueError, KeyError, TypeError):
            return f"no envelope: {self.received[:300]!r}"
        return "" if {"code", "message"} <= set(error) else f"no code: {error}"


def send(port: int, request: bytes) -> Reply:
    """Send any bytes and return what comes back."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as conn:
        # The server may respond and close the connection before it has received everything.
        with suppress(ConnectionError):
            conn.sendall(request)
        with suppress(ConnectionError, TimeoutError):
            while part := conn.recv(65536):
                received += part
    return Reply(received)


def find_problems(port: int) -> list[str]:
    """Send all requests and list those whose response is an error outside of the envelope."""
    with ThreadPoolExecutor(10) as threads:
        received = threads.map(partial(send, port), REQUESTS.values())
        replies = dict(zip(REQUESTS, received, strict=True))
    return [f"{name}: {reply.problem}" for name, reply in replies.items() if reply.problem]
