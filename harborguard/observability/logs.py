"""What the process says: one event a line, on standard error, never with a secret in it.

Whatever is said, here or in a library, goes through the same processors to the same sink.
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

# Which request is being answered in this thread; empty for none. Every line tells it.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")

STDERR = 2
REDACTED = "[redacted]"
_SECRET_NAMES = frozenset(
    ("authorization", "proxy_authorization", "x_api_key", "cookie", "set_cookie", "password")
)
# What tells by its shape, or by the word before it, that it is one; wherever it stands.
_SECRET = re.compile(
    r"""
      hg_(?:ak|pat)_[\w-]+
    | (?<![\w-])[\w-]{6,}\.\.[\w-]+\.[\w-]*\.[\w-]*     # a directly encrypted JWE
    | (?<![\w-])eyJ[\w-]{8,}(?:\.[\w-]*)+               # any other token of JOSE
    | (?<=://)[^\s/?\#:]*:[^\s]*(?=@)                   # user and password in a URL
    | (?P<told>bearer\s+
        | (?:authorization|x[-_]api[-_]key|cookie|session-token(?:\.\d+)?|password)
          ["']?\s*[:=,]\s*)[^\r\n]+
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)

# No secret is found by the above in a text that has none of these: most lines are through at once.
_TRACES = (
    *("hg_", "..", "eyj", "://", "bearer", "authorization", "x-api", "x_api"),
    *("cookie", "session-token", "password"),
)


def configure_logging(config: Config, fd: int = STDERR) -> None:
    """Makes everything that is said in this process come out at `fd`, as the settings want it.

    A second call changes nothing: gunicorn reads its configuration again at each reload.
    """
    if structlog.is_configured():
        return
    level = logging.getLevelNamesMapping()[config.log_level.upper()]
    is_text = config.log_format == "text" or (config.log_format == "auto" and os.isatty(fd))
    sink = Sink(fd)
    structlog.configure(
        processors=[*make_processors(config.nextauth_secrets), _text if is_text else _json],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=level, handlers=[_Forwarder()], force=True)


def make_processors(secrets: Sequence[str] = ()) -> list[Processor]:
    """What each event goes through before it is written; `secrets` are known literally."""
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
    """The one place where secrets end: nothing is written that has not come through here."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._traces = (*_TRACES, *(secret.lower() for secret in secrets))
        self._known = re.compile("|".join(map(re.escape, secrets)) or r"(?!)")

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if self._is_harmless(event):
            return event
        return {self._clean(name): self._redact(name, event[name]) for name in event}

    def _is_harmless(self, event: EventDict) -> bool:
        texts = [*event]
        for value in event.values():
            if isinstance(value, str):
                texts.append(value)
            elif not (value is None or isinstance(value, int | float)):
                return False
        text = "\n".join(texts).lower()
        return all(trace not in text for trace in self._traces)

    def _redact(self, name: str, value: Any) -> Any:
        """A value without its secrets; what is neither text nor a plain container becomes text."""
        if value is None or isinstance(value, int | float):
            return value
        if name.lower().replace("-", "_").removeprefix("http_") in _SECRET_NAMES:
            return REDACTED
        if isinstance(value, Mapping):
            return {self._clean(str(k)): self._redact(str(k), v) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            items = list(value)
            pair_of = items[0] if len(items) == 2 and isinstance(items[0], str) else ""
            return [self._redact(pair_of, item) for item in items]
        if isinstance(value, bytes):
            value = value.decode("utf-8", "backslashreplace")
        return self._clean(str(value))

    def _clean(self, text: str) -> str:
        return _SECRET.sub(rf"\g<told>{REDACTED}", self._known.sub(REDACTED, text))


def _json(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    try:
        return orjson.dumps(event)
    except orjson.JSONEncodeError:  # half a surrogate pair, or a number beyond 64 bits
        return orjson.dumps({name: ascii(value) for name, value in event.items()})


_console = structlog.dev.ConsoleRenderer(
    colors=False, exception_formatter=structlog.dev.plain_traceback
)


def _text(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    """For eyes: one line, and under it the lines of a traceback."""
    shown = {
        name: value if name == "exception" or not isinstance(value, str) else _printable(value)
        for name, value in event.items()
    }
    return _console(logger, method, shown).encode("utf-8", "backslashreplace")


def _printable(text: str) -> str:
    # What a terminal would obey is spelled out instead.
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class _Forwarder(logging.Handler):
    """Hands what libraries say (gunicorn, psycopg.pool) to the processors."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            told = {"logger": record.name, "exc_info": record.exc_info or None}
            structlog.get_logger().log(_known_level(record.levelno), record.getMessage(), **told)
        except Exception:
            self.handleError(record)


def _known_level(number: int) -> int:
    return max(logging.DEBUG, min(number // 10 * 10, logging.CRITICAL))


class Sink:
    """Writes lines without ever waiting for their reader: what does not fit is dropped and told.

    A full pipe would otherwise hold every request up until the workers are killed. A line of more
    than a page may come in pieces then, between others' lines.
    """

    def __init__(self, fd: int) -> None:
        self._send = _make_sender(fd)
        self._lock = threading.RLock()
        self._rest = b""
        self._dropped = 0

    def msg(self, line: bytes) -> None:
        """Writes one event; the levels of structlog all come here."""
        with self._lock:
            if self._rest:
                self._rest = self._push(self._rest)
            whole = line + b"\n"
            unsent = whole if self._rest else self._push(whole)
            if len(unsent) == len(whole):
                self._dropped += 1
                return
            self._rest = unsent
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                structlog.get_logger().warning("log lines were dropped", lines=dropped)

    debug = info = warning = error = critical = msg

    def _push(self, data: bytes) -> bytes:
        """Answers with what could not be sent; of a broken line, the next call sends the rest."""
        try:
            return data[self._send(data) :]
        except OSError:
            return data


def _make_sender(fd: int) -> Callable[[bytes], int]:
    """How to write without waiting, and without changing what others share with us."""
    kind = os.fstat(fd).st_mode
    if stat.S_ISSOCK(kind):  # systemd's journal
        conn = socket.socket(fileno=os.dup(fd))
        return lambda data: conn.send(data, socket.MSG_DONTWAIT)
    if stat.S_ISFIFO(kind):
        with suppress(OSError):  # not ours to open: it will wait, as any program would
            own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            return partial(os.write, own)
    return partial(os.write, fd)
