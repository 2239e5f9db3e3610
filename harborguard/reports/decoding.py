"""Foreign JSON bytes into Structs; whatever can be wrong with them leaves as an error of ours."""

import re
import threading
from typing import Annotated, ClassVar, TypeVar

import msgspec
from msgspec import Meta, Raw
from msgspec.json import Decoder

from harborguard.errors import InvalidReport, Issue, UnreadableReport

MAX_ENTRIES = 100_000
MAX_IDENTIFIER = 1000
MAX_TEXT = 1 << 16
MAX_PART = 1 << 20
MAX_STRINGS = 1000
_MAX_MESSAGE = 300

# No field can hold NUL: PostgreSQL's text cannot.
_NO_NUL = r"\A[^\x00]*\Z"
Name = Annotated[str, Meta(max_length=MAX_IDENTIFIER, pattern=_NO_NUL)]
Identifier = Annotated[str, Meta(min_length=1, max_length=MAX_IDENTIFIER, pattern=_NO_NUL)]
# Goes into an index, whose rows PostgreSQL limits to 2704 bytes.
ShortIdentifier = Annotated[str, Meta(min_length=1, max_length=200, pattern=_NO_NUL)]
Text = Annotated[str, Meta(max_length=MAX_TEXT, pattern=_NO_NUL)]
# What is read and not kept.
Word = Annotated[str, Meta(max_length=MAX_IDENTIFIER)]

_MISSING = re.compile(r"Object missing required field `(\w+)`")
_STRINGS = Decoder(list[str])
_T = TypeVar("_T")


class _Tally(threading.local):
    """How many entries one decoding may still hold, and the strings it has met."""

    def __init__(self) -> None:
        self.left = 0
        self.strings: dict[str, str] = {}


_tally = _Tally()


class Entry(msgspec.Struct, gc=False):
    """An object that a report lists any number of times.

    Entries are counted as they are decoded, so that three bytes repeated cannot become forty
    bytes of memory each for as long as the document lasts; and the strings of the fields named in
    `shared` are kept once.
    """

    shared: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        _tally.left -= 1
        if _tally.left < 0:
            raise ValueError(f"the report lists more than {MAX_ENTRIES} entries")
        for field in self.shared:
            value = getattr(self, field)
            if value:
                setattr(self, field, _tally.strings.setdefault(value, value))


def decode(document: bytes | Raw, decoder: Decoder[_T], path: str = "") -> _T:
    """A document, or the part of one at `path`, as what `decoder` makes of it.

    Fields that it does not name are skipped. Raises UnreadableReport for what is no JSON;
    InvalidReport, with the JSON path, for what has another shape, lists over `MAX_ENTRIES`
    entries, or keeps NUL, an identifier of more than `MAX_IDENTIFIER` characters or a text of more
    than `MAX_TEXT`.
    """
    _tally.left, _tally.strings = MAX_ENTRIES, {}
    try:
        return decoder.decode(document)
    except msgspec.ValidationError as error:
        raise _misfit(str(error), path) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableReport(f"The report is not a JSON document in UTF-8: {error}.") from error
    except RecursionError as error:
        raise UnreadableReport("The report is a JSON document nested too deeply.") from error
    finally:
        _tally.strings = {}


def decode_part(part: Raw, decoder: Decoder[_T], path: str) -> _T:
    """A part that was left unread until now, of at most `MAX_PART` bytes; raises as `decode`."""
    if memoryview(part).nbytes > MAX_PART:
        raise _misfit(f"is longer than {MAX_PART} bytes", path)
    return decode(part, decoder, path)


def read_part(part: Raw, decoder: Decoder[_T]) -> _T | None:
    """The same for what a report can do without: None where it is absent or cannot be read."""
    try:
        return decode_part(part, decoder, "") if part else None
    except (InvalidReport, UnreadableReport):
        return None


def read_strings(part: Raw) -> list[str]:
    """The first `MAX_STRINGS` of a list; empty where it is absent or cannot be read."""
    return (read_part(part, _STRINGS) or [])[:MAX_STRINGS]


def require_version(told: Raw, expected: str, path: str) -> None:
    """Refuses (InvalidReport) a format's version other than the one that is read here, as JSON."""
    written = bytes(memoryview(told)[:40])
    if written != expected.encode():
        shown = written.decode(errors="replace") or "missing"
        message = f"is {shown}; supported is {expected}"
        raise InvalidReport(
            f"The report has a version that is not supported: {path} {message}.",
            [Issue(path, message)],
        )


def _misfit(problem: str, within: str) -> InvalidReport:
    # msgspec tells the place at the end of its message, as "... - at `$.items[0].name`".
    message, placed, place = problem.rpartition(" - at `")
    if not placed:
        message, place = problem, ""
    path = within + place.rstrip("`").removeprefix("$")
    if missing := _MISSING.match(message):
        path, message = f"{path}.{missing[1]}", "is required"
    elif "matching regex" in message:
        message = "must not contain NUL (\\u0000)"
    path = path.removeprefix(".") or "$"
    message = message[:_MAX_MESSAGE]
    return InvalidReport(
        f"The report breaks its format at {path}: {message}.", [Issue(path, message)]
    )
