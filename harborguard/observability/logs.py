"""Write the log: one event per line on standard error, without secrets.

Events of the service and records of its libraries use the same processors and the same stream.
"""

import logging
import os
import re
import socket
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from harborguard.config import Config

# The id of the current request, or an empty string. `_add_request_id` adds it to each event.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")

STDERR = 2
REDACTED = "[redacted]"
_SECRET_NAMES = frozenset(
    ("authorization", "proxy_authorization", "x_api_key", "cookie", "set_cookie", "password")
)
# Matches secrets anywhere in a text, by their format or by the word before them.
_SECRET = re.compile(
    r"""
      hg_(?:ak|pat)_[\w-]+
    | (?<![\w-])[\w-]{6,}\.\.[\w-]+\.[\w-]*\.[\w-]*     # a directly encrypted JWE
    | (?<![\w-])eyJ[\w-]{8,}(?:\.[\w-]*)+               # any other JOSE token
    | (?<=://)[^\s/?\#:]*:[^\s]*(?=@)                   # user and password in a URL
    | (?P<label>bearer\s+
        | (?:authorization|x[-_]api[-_]key|cookie|session-token(?:\.\d+)?|password)
          ["']?\s*[:=,]\s*)[^\r\n]+
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)

# Each match of the pattern above contains one of these, in lower case. Searching for them first is
# faster, and most events contain none.
_SECRET_HINTS = (
    "hg_",
    "..",
    "eyj",
    "://",
    "bearer",
    "authorization",
    "x-api",
    "x_api",
    "cookie",
    "session-token",
    "password",
)


def configure_logging(config: Config, fd: int = STDERR) -> None:
    """Send all log events of this process to `fd`, with the level and format of the settings.

    A second call has no effect: gunicorn reads its configuration again at each reload.
    """
    if structlog.is_configured():
        return
    level = logging.getLevelNamesMapping()[config.log_level.upper()]
    is_text = config.log_format == "text" or (config.log_format == "auto" and os.isatty(fd))
    stream = NonBlockingStream(fd)
    structlog.configure(
        processors=[*make_processors(config.nextauth_secrets), _text if is_text else _json],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: stream,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=level, handlers=[StructlogHandler()], force=True)


def make_processors(secrets: Sequence[str] = ()) -> list[Processor]:
    """Return the processors of each event; `secrets` are values to redact wherever they occur."""
    return [
        _add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _Redaction(secrets),
    ]


def _add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if request_id := REQUEST_ID.get():
        event["request_id"] = request_id
    return event


class _Redaction:
    """Replace the secrets in an event: values of secret fields, and secrets within texts."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._hints = (*_SECRET_HINTS, *(secret.lower() for secret in secrets))
        self._known = re.compile("|".join(map(re.escape, secrets)) or r"(?!)")

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if self._has_no_hints(event):
            return event
        return {self._clean(name): self._redact(name, event[name]) for name in event}

    def _has_no_hints(self, event: EventDict) -> bool:
        texts = [*event]
        for value in event.values():
            if isinstance(value, str):
                texts.append(value)
            elif not (value is None or isinstance(value, int | float)):
                return False
        text = "\n".join(texts).lower()
        return all(hint not in text for hint in self._hints)

    def _redact(self, name: str, value: Any) -> Any:
        """Return a value without its secrets. Values of unknown types become text."""
        if value is None or isinstance(value, int | float):
            return value
        if name.lower().replace("-", "_").removeprefix("http_") in _SECRET_NAMES:
            return REDACTED
        if isinstance(value, Mapping):
            return {self._clean(str(k)): self._redact(str(k), v) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            items = list(value)
            # A pair may be a header: its name decides about its value.
            header = items[0] if len(items) == 2 and isinstance(items[0], str) else ""
            return [self._redact(header, item) for item in items]
        if isinstance(value, bytes):
            value = value.decode("utf-8", "backslashreplace")
        return self._clean(str(value))

    def _clean(self, text: str) -> str:
        return _SECRET.sub(rf"\g<label>{REDACTED}", self._known.sub(REDACTED, text))


def _json(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    try:
        return orjson.dumps(event)
    except orjson.JSONEncodeError:  # a lone surrogate, or a number of more than 64 bits
        return orjson.dumps({name: ascii(value) for name, value in event.items()})


_console = structlog.dev.ConsoleRenderer(
    colors=False, exception_formatter=structlog.dev.plain_traceback
)


def _text(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    """Format an event for a terminal: one line, followed by the lines of a traceback."""
    printable = {
        name: value if name == "exception" or not isinstance(value, str) else _printable(value)
        for name, value in event.items()
    }
    return _console(logger, method, printable).encode("utf-8", "backslashreplace")


def _printable(text: str) -> str:
    # Control characters are escaped: a terminal would interpret them.
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class StructlogHandler(logging.Handler):
    """Pass the records of libraries (gunicorn, psycopg.pool) to the processors."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the message of a record with its logger's name and its exception."""
        try:
            fields = {"logger": record.name, "exc_info": record.exc_info or None}
            structlog.get_logger().log(_known_level(record.levelno), record.getMessage(), **fields)
        except Exception:
            self.handleError(record)


def _known_level(number: int) -> int:
    # structlog only knows the five standard levels.
    return max(logging.DEBUG, min(number // 10 * 10, logging.CRITICAL))


class NonBlockingStream:
    """Write lines to a descriptor without blocking.

    If a pipe is full, lines are dropped; their number is logged once there is room. A blocking
    write would stop every request until gunicorn kills the workers. A line longer than a memory
    page may be written in parts, with lines of other processes between them.
    """

    def __init__(self, fd: int) -> None:
        self._send = _make_sender(fd)
        self._lock = threading.RLock()
        self._unsent = b""
        self._dropped = 0

    def msg(self, line: bytes) -> None:
        """Write an event, or drop it; structlog calls this for every level."""
        with self._lock:
            if self._unsent:
                self._unsent = self._write(self._unsent)
            data = line + b"\n"
            remainder = data if self._unsent else self._write(data)
            if len(remainder) == len(data):
                self._dropped += 1
                return
            self._unsent = remainder
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                structlog.get_logger().warning("log lines were dropped", lines=dropped)

    debug = info = warning = error = critical = msg

    def _write(self, data: bytes) -> bytes:
        """Write what fits and return the rest."""
        try:
            return data[self._send(data) :]
        except OSError:
            return data


def _make_sender(fd: int) -> Callable[[bytes], int]:
    """Return a function that writes without blocking and returns the number of bytes written.

    The descriptor itself stays in blocking mode, because other processes share it.
    """
    kind = os.fstat(fd).st_mode
    if stat.S_ISSOCK(kind):  # systemd's journal
        conn = socket.socket(fileno=os.dup(fd))
        return lambda data: conn.send(data, socket.MSG_DONTWAIT)
    if stat.S_ISFIFO(kind):
        # Without permission to reopen the pipe, writes block.
        with suppress(OSError):
            reopened = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            return partial(os.write, reopened)
    return partial(os.write, fd)
