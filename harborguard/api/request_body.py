"""Read request bodies: check their size, decompress gzip, and keep one copy in memory."""

import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import BytesIO

from flask import request

from harborguard.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType

_CHUNK = 1 << 16  # bytes
_GZIP = 16 + zlib.MAX_WBITS


def read_json_body(limit: int) -> bytes:
    """Return the bytes of a JSON body, inflated if necessary: at most `limit` bytes.

    Raise UnsupportedMediaType for another Content-Type or Content-Encoding, PayloadTooLarge as soon
    as the limit is passed, and InvalidRequest if the body is incomplete.
    """
    if not request.is_json:
        raise UnsupportedMediaType("The Content-Type must be application/json.")
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise UnsupportedMediaType("The Content-Encoding must be gzip or identity.")
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    chunks = _cap(_receive(), limit)
    return _join(_cap(_inflate(chunks), limit) if encoding == "gzip" else chunks)


def discard_body(limit: int) -> None:
    """Read what is left of a request's body whose Content-Length is at most `limit` bytes.

    nginx sends the whole body before it reads the response. If the service closed the connection
    earlier, nginx could not send the rest and would respond with 503. nginx never sends a body
    without Content-Length.
    """
    if 0 < (request.content_length or 0) <= limit:
        with suppress(InvalidRequest):  # the client is gone
            for _ in _receive():
                pass


def _receive() -> Iterator[bytes]:
    while chunk := _read():
        yield chunk


def _read() -> bytes:
    try:
        return request.stream.read(_CHUNK)
    except Exception as error:
        # Each server has its own exception for a body shorter than its Content-Length.
        raise InvalidRequest("The body is incomplete.") from error


def _cap(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise _too_large(limit)
        yield chunk


def _inflate(chunks: Iterable[bytes]) -> Iterator[bytes]:
    stream = zlib.decompressobj(_GZIP)
    for chunk in chunks:
        if stream.eof:
            raise _invalid_gzip()
        yield from _decompress(stream, chunk)
    if stream.unused_data or not stream.eof:
        raise _invalid_gzip()


def _decompress(stream: "zlib._Decompress", chunk: bytes) -> Iterator[bytes]:
    remaining, inflated = chunk, b""
    # After a full output chunk, zlib may hold more output although all input is consumed.
    while (remaining or len(inflated) == _CHUNK) and not stream.eof:
        try:
            inflated = stream.decompress(remaining, _CHUNK)
        except zlib.error as error:
            raise _invalid_gzip() from error
        yield inflated
        remaining = stream.unconsumed_tail


def _invalid_gzip() -> InvalidRequest:
    return InvalidRequest("The body is not one complete gzip stream.")


def _join(chunks: Iterable[bytes]) -> bytes:
    # b"".join would keep the body twice. BytesIO grows in place, and getvalue does not copy.
    body = BytesIO()
    for chunk in chunks:
        body.write(chunk)
    return body.getvalue()


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {limit} bytes.")
