"""A request's body, read within bounds and held once; inflated where it comes as gzip."""

import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO

from flask import request

from harborguard.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType

_PIECE = 1 << 16
_GZIP = 16 + zlib.MAX_WBITS


def read_json_body(limit: int) -> bytes:
    """The bytes of a JSON body, as sent or inflated, of which there may be `limit`.

    Raises UnsupportedMediaType for another kind of body or coding, PayloadTooLarge without
    reading on, InvalidRequest for a body that breaks off.
    """
    if not request.is_json:
        raise UnsupportedMediaType("The body must be of the type application/json.")
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in {"identity", "gzip"}:
        raise UnsupportedMediaType("The body may be coded as gzip, or not at all.")
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    pieces = _cap(_receive(), limit)
    return _join(_cap(_inflate(pieces), limit) if coding == "gzip" else pieces)


def _receive() -> Iterator[bytes]:
    while piece := _read():
        yield piece


def _read() -> bytes:
    try:
        return request.stream.read(_PIECE)
    except Exception as error:
        # Each server has errors of its own for a client that sends less than it said.
        raise InvalidRequest("The body broke off.") from error


def _cap(pieces: Iterable[bytes], limit: int) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > limit:
            raise _too_large(limit)
        yield piece


def _inflate(pieces: Iterable[bytes]) -> Iterator[bytes]:
    stream = zlib.decompressobj(_GZIP)
    for piece in pieces:
        if stream.eof:
            raise _broken_gzip()
        yield from _decompress(stream, piece)
    if stream.unused_data or not stream.eof:
        raise _broken_gzip()


def _decompress(stream: "zlib._Decompress", piece: bytes) -> Iterator[bytes]:
    waiting, inflated = piece, b""
    # A full piece may have more behind it though all that came is used up.
    while (waiting or len(inflated) == _PIECE) and not stream.eof:
        try:
            inflated = stream.decompress(waiting, _PIECE)
        except zlib.error as error:
            raise _broken_gzip() from error
        yield inflated
        waiting = stream.unconsumed_tail


def _broken_gzip() -> InvalidRequest:
    return InvalidRequest("The body is not one whole gzip stream.")


def _join(pieces: Iterable[bytes]) -> bytes:
    # A list joined would hold the body twice; this buffer grows in place and is handed over.
    body = BytesIO()
    for piece in pieces:
        body.write(piece)
    return body.getvalue()


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {limit} bytes.")
