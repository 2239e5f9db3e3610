"""The log has one event per line and contains no secrets."""

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog

from harborguard.auth import credentials
from harborguard.auth.credentials import make_secret
from harborguard.model import PrincipalKind
from harborguard.observability.logs import REQUEST_ID, NonBlockingStream
from tests.conftest import Events
from tests.support import leaks
from tests.support.cookies import (
    SECRET,
    V4_NAME,
    V5_NAME,
    chunk,
    make_claims,
    make_cookie_header,
    mint_v4,
    mint_v5,
)

ROOT = Path(__file__).parents[2]
KEY = "hg_ak_" + "5e" * 24
PASSWORD = "pass-word-of-the-tests"
BASIC = "YWRtaW46b3BlbnNlc2FtZW9wZW5zZXNhbWU"

log = structlog.get_logger()


def test_logged_event_has_its_fields_level_and_time(events: Events) -> None:
    REQUEST_ID.set("")  # a response that another test did not close leaves its id here
    log.info("image added", count=3, name="api", of=None)
    [event] = events()
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "image added", "level": "info", "count": 3, "name": "api", "of": None}


def secrets_in_every_shape() -> list[Any]:
    """Return values with a secret in them, as code may log them by mistake."""
    v4, v5 = mint_v4(make_claims(0, picture="x" * 6000)), mint_v5(make_claims(0))
    cookie = make_cookie_header(chunk(V4_NAME, v4))
    return [
        KEY,
        KEY.encode(),
        f"no such key: {KEY}.",
        make_secret(PrincipalKind.ACCESS_TOKEN).secret,
        v4,
        f"<{v5}>",
        f"Cookie: {cookie}\r\nHost: x",
        cookie,
        f"{V5_NAME}={v5}",
        {"Cookie": f"theme=dark; anything={BASIC}"},
        {"headers": [("Authorization", f"Basic {BASIC}"), ("X-API-Key", KEY)]},
        {"HTTP_X_API_KEY": BASIC, "nested": {"deep": [{"authorization": BASIC}]}},
        f"Authorization: Basic {BASIC}",
        f"'HTTP_AUTHORIZATION': 'Bearer {BASIC}'",
        f"bearer {BASIC}",
        f"postgresql://harborguard:{PASSWORD}@db.example.org/harborguard",
        f"postgresql://harborguard:p@{PASSWORD}@db.example.org,other/harborguard",
        f"host=db user=harborguard password='{PASSWORD}' dbname=x",
        f"host=db password = {PASSWORD}",
        f"postgresql:///x?password={PASSWORD}",
        f"the secret is {SECRET}",
        KeyError(KEY),
        {KEY: 1},
        {"a": {KEY, 1}},
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(len(secrets_in_every_shape())))
def test_value_with_a_secret_is_redacted(events: Events, log_file: Path, number: int) -> None:
    value = secrets_in_every_shape()[number]
    known = {KEY, PASSWORD, BASIC, *leaks.ISSUED}
    start = log_file.stat().st_size
    log.info("a value", value=value)
    log.info(str(value))
    log.error("an exception", exc_info=ValueError(value))
    output = log_file.read_bytes()[start:].decode()
    assert len(events()) == 3
    assert output.count("[redacted]") >= 3
    assert not leaks.find_leaks(output, known)
    assert leaks.find_leaks(str(value), known), "find_leaks does not recognize this secret"


@pytest.mark.parametrize(
    "text",
    ["harborguard.store.pool..x", "img-3f2a9c0d71e84b55", "http://127.0.0.1:8000/x", "a@b.test", "key-1 of hg_ak", "..", "eyJ"],
)  # fmt: skip
def test_text_without_a_secret_is_unchanged(events: Events, text: str) -> None:
    log.info(text)
    assert events()[0]["event"] == text


FORGERIES = [
    'x\n{"event": "forged", "level": "info"}',
    "x\r\nforged",
    'x", "level": "critical',
    "x\x1b[2K\x1b[1Aforged",
    "x\u2028forged\u2029forged\x85forged",
    "\ud800\udfff half of a pair",
    "x\x00y",
    "\u202egnp.exe",
    b"\xff\n\xfe",
    2**70,
    float("nan"),
]


@pytest.mark.parametrize("value", FORGERIES, ids=ascii)
def test_event_with_control_characters_is_one_line(events: Events, value: Any) -> None:
    log.info("a value", value=value, **{"forged\nname": value})
    log.warning(str(value))
    logged = events()
    assert len(logged) == 2
    assert "forged" not in {event["event"] for event in logged}


def test_text_format_on_a_terminal_escapes_control_characters() -> None:
    program = (
        "import structlog; from harborguard.observability.logs import configure_logging;"
        "from harborguard.config import Config; configure_logging(Config());"
        "log = structlog.get_logger(); log.debug('below the level'); nan = 0.0;"
        f"[log.info('logged', value=value) for value in {FORGERIES!a}]"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=theirs) as process:
        os.close(theirs)
        output = b""
        with suppress(OSError):  # EIO: the other end of the terminal is closed
            while part := os.read(ours, 65536):
                output += part
    os.close(ours)
    assert process.returncode == 0
    lines = output.decode().rstrip().split("\r\n")
    assert len(lines) == len(FORGERIES)
    assert all("[info     ] logged" in line for line in lines)
    assert b"\x1b" not in output


class Pipe:
    """A pipe whose reader does not block."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def read(self) -> bytes:
        """Return all that is in the pipe."""
        received = b""
        try:
            while part := os.read(self.reader, 65536):
                received += part
        except BlockingIOError:
            pass
        return received


@pytest.mark.timeout(10)
@pytest.mark.parametrize("size", [10, 3000, 30_000])
def test_write_to_a_full_pipe_does_not_block_and_keeps_lines_complete(size: int) -> None:
    pipe = Pipe()
    stream = NonBlockingStream(pipe.writer)
    received = b""
    for number in range(300):
        stream.info(json.dumps({"number": number, "fill": "x" * size}).encode())
        if number % 100 == 99:
            received += pipe.read()
    for number in (300, 301, 302):
        received += pipe.read()
        stream.info(json.dumps({"number": number}).encode())
    received += pipe.read()
    numbers = [json.loads(line)["number"] for line in received.splitlines()]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 302
    assert os.get_blocking(pipe.writer), "other processes write to the same pipe"


@pytest.mark.timeout(10)
def test_dropped_lines_are_counted_in_a_warning(events: Events) -> None:
    pipe = Pipe()
    stream = NonBlockingStream(pipe.writer)
    for _ in range(100):
        stream.info(b"x" * 3000)
    assert events() == []
    written = pipe.read().count(b"\n")
    stream.info(b"x")
    [warning] = events()
    assert (warning["event"], warning["lines"]) == ("log lines were dropped", 100 - written)


def test_write_to_a_closed_pipe_raises_nothing() -> None:
    pipe = Pipe()
    stream = NonBlockingStream(pipe.writer)
    os.close(pipe.reader)
    stream.info(b"x")


def test_leaked_secret_is_found() -> None:
    secret = credentials.make_secret(PrincipalKind.API_KEY).secret
    session = mint_v4(make_claims(0))
    assert {secret, session} <= leaks.ISSUED
    assert leaks.find_leaks(f'{{"event":"{secret}"}}', leaks.ISSUED) == {secret}
    assert leaks.find_leaks(f"sent {session}", leaks.ISSUED)
    assert not leaks.find_leaks(secret[:10], leaks.ISSUED)
