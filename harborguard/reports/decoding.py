"""Decode untrusted JSON into structs, with limits on its size and errors that name the field."""

import re
import threading
from itertools import islice
from typing import Annotated, ClassVar, TypeVar

import msgspec
from msgspec import Meta, Raw
from msgspec.json import Decoder

from harborguard.errors import InvalidReport, Issue, UnreadableReport

MAX_ENTRIES = 100_000
MAX_IDENTIFIER = 200  # characters
MAX_PART = 1 << 20  # bytes
MAX_STRINGS = 1000
_MAX_MESSAGE = 300  # characters

# PostgreSQL's type text cannot contain NUL.
_NO_NUL = r"\A[^\x00]*\Z"
# PostgreSQL limits an index row to 2704 bytes, and a character may have 4.
Identifier = Annotated[str, Meta(min_length=1, max_length=MAX_IDENTIFIER, pattern=_NO_NUL)]

_PAIR = rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_LONE = rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
# Escaped backslashes, then a run of surrogate pairs and the lone surrogate that follows, if any.
# Backslashes are read from the first one, because each may itself be escaped. Only a group without
# alternatives is possessive: Python before 3.11.5 matches others wrongly
# (https://github.com/python/cpython/issues/106052).
_SURROGATES = re.compile(
    rb"(?<!\\)(?:\\\\)*+(?:(?:%(pair)b)+(%(lone)b)?|(%(lone)b))" % {b"pair": _PAIR, b"lone": _LONE}
)
_MAX_SURROGATES = 1_000_000
_REPLACEMENT = rb"\ufffd"
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_STRINGS = Decoder(list[str])
_T = TypeVar("_T")


class _DecodingState(threading.local):
    """The state of the current thread's decoding: remaining entries and interned strings."""

    def __init__(self) -> None:
        self.entries_left = 0
        self.interned: dict[str, str] = {}


_state = _DecodingState()


class Entry(msgspec.Struct, gc=False):
    """A JSON object in an array whose length a report format does not limit.

    Entries are counted while they are decoded, so that a small body cannot allocate an unlimited
    number of objects. Equal strings in the fields named in `interned` share one object.
    """

    interned: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        _state.entries_left -= 1
        if _state.entries_left < 0:
            raise ValueError(f"the report lists more than {MAX_ENTRIES} entries")
        for field in self.interned:
            value = getattr(self, field)
            if value:
                setattr(self, field, _state.interned.setdefault(value, value))


def decode(document: bytes | Raw, decoder: Decoder[_T], path: str = "") -> _T:
    """Decode a JSON document, or the part of one at the JSON path `path`.

    Unknown fields are skipped. Lone surrogates are decoded as U+FFFD. Raise UnreadableReport if the
    text is not JSON. Raise InvalidReport, with the path of the field, if a value has another type
    than the decoder's, an identifier is too long or contains NUL, or the document has more than
    `MAX_ENTRIES` entries.
    """
    _state.entries_left, _state.interned = MAX_ENTRIES, {}
    try:
        return _decode(document, decoder)
    except msgspec.ValidationError as error:
        raise _schema_error(str(error), path) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableReport(f"The report is not a JSON document in UTF-8: {error}.") from error
    except RecursionError as error:
        raise UnreadableReport("The report is a JSON document nested too deeply.") from error
    finally:
        _state.interned = {}


def _decode(document: bytes | Raw, decoder: Decoder[_T]) -> _T:
    try:
        return decoder.decode(document)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # JSON allows an escaped lone surrogate, but msgspec does not, and UTF-8 has none.
        repaired = _replace_lone_surrogates(document)
        if repaired is None:
            raise
    _state.entries_left = MAX_ENTRIES
    return decoder.decode(repaired)


def _replace_lone_surrogates(document: bytes | Raw) -> bytearray | None:
    """Return a copy with U+FFFD for lone surrogates; None without any.

    Only the first `_MAX_SURROGATES` matches are examined, so that the time is limited.
    """
    view = memoryview(document)
    repaired: bytearray | None = None
    for match in islice(_SURROGATES.finditer(view), _MAX_SURROGATES):
        if match.lastindex:
            repaired = bytearray(view) if repaired is None else repaired
            repaired[slice(*match.span(match.lastindex))] = _REPLACEMENT
    return repaired


def decode_part(part: Raw, decoder: Decoder[_T], path: str) -> _T:
    """Decode a part that was kept as raw JSON, of at most `MAX_PART` bytes. Raises as `decode`."""
    if memoryview(part).nbytes > MAX_PART:
        raise _schema_error(f"is longer than {MAX_PART} bytes", path)
    return decode(part, decoder, path)


def decode_optional_part(part: Raw, decoder: Decoder[_T]) -> _T | None:
    """Decode a part like `decode_part`; return None if it is missing or invalid."""
    try:
        return decode_part(part, decoder, "") if part else None
    except (InvalidReport, UnreadableReport):
        return None


def decode_optional_strings(part: Raw) -> list[str]:
    """Return the first `MAX_STRINGS` strings of an array; none if it is missing or invalid."""
    return (decode_optional_part(part, _STRINGS) or [])[:MAX_STRINGS]


def require_version(version: Raw, expected: str, path: str) -> None:
    """Raise InvalidReport unless a version, as JSON text, is `expected`."""
    text = bytes(memoryview(version)[:40])
    if text != expected.encode():
        shown = text.decode(errors="replace") or "missing"
        message = f"is {shown}, but only {expected} is supported"
        raise InvalidReport(
            f"The version of the report is not supported: {path} {message}.",
            [Issue(path, message)],
        )


def _schema_error(problem: str, parent: str) -> InvalidReport:
    # msgspec appends the location to its message: "... - at `$.items[0].name`".
    message, separator, location = problem.rpartition(" - at `")
    if not separator:
        message, location = problem, ""
    path = parent + location.rstrip("`").removeprefix("$")
    if missing := _MISSING.match(message):
        path, message = f"{path}.{missing[1]}", "is required"
    elif "matching regex" in message:
        message = "must not contain NUL (\\u0000)"
    path = path.removeprefix(".") or "$"
    message = message[:_MAX_MESSAGE]
    return InvalidReport(f"The report is invalid. {path}: {message}.", [Issue(path, message)])
