"""The log: one event a line, and never a secret in it."""

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
from harborguard.observability.logs import REQUEST_ID, Sink
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


def test_it_works(events: Events) -> None:
    REQUEST_ID.set("")  # an answer that another test did not close leaves its own
    log.info("it happened", count=3, name="api", of=None)
    [event] = events()
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "it happened", "level": "info", "count": 3, "name": "api", "of": None}


def secrets_in_every_shape() -> list[Any]:
    """Values that were logged by mistake somewhere, some time."""
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
def test_no_secret_comes_through(events: Events, log_file: Path, number: int) -> None:
    value = secrets_in_every_shape()[number]
    known = {KEY, PASSWORD, BASIC, *leaks.ISSUED}
    start = log_file.stat().st_size
    log.info("a value", value=value)
    log.info(str(value))
    log.error("an exception", exc_info=ValueError(value))
    said = log_file.read_bytes()[start:].decode()
    assert len(events()) == 3
    assert said.count("[redacted]") >= 3
    assert not leaks.find_leaks(said, known)
    assert leaks.find_leaks(str(value), known), "the test itself would see it"


@pytest.mark.parametrize(
    "text",
    ["harborguard.store.pool..x", "img-3f2a9c0d71e84b55", "http://127.0.0.1:8000/x", "a@b.test", "key-1 of hg_ak", "..", "eyJ"],
)  # fmt: skip
def test_what_is_no_secret_stays(events: Events, text: str) -> None:
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
def test_an_event_is_one_line_whatever_is_in_it(events: Events, value: Any) -> None:
    log.info("a value", value=value, **{"forged\nname": value})
    log.warning(str(value))
    told = events()
    assert len(told) == 2
    assert "forged" not in {event["event"] for event in told}


def test_a_terminal_gets_words_on_one_line_too() -> None:
    program = (
        "import structlog; from harborguard.observability.logs import configure_logging;"
        "from harborguard.config import Config; configure_logging(Config());"
        "log = structlog.get_logger(); log.debug('unheard'); nan = 0.0;"
        f"[log.info('told', value=value) for value in {FORGERIES!a}]"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        with suppress(OSError):  # how a terminal's end is told
            while part := os.read(ours, 65536):
                said += part
    os.close(ours)
    assert process.returncode == 0
    lines = said.decode().rstrip().split("\r\n")
    assert len(lines) == len(FORGERIES)
    assert all("[info     ] told" in line for line in lines)
    assert b"\x1b" not in said


class Pipe:
    """A pipe of one page, so that it is full soon."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def read(self) -> bytes:
        """All that is in it."""
        received = b""
        try:
            while part := os.read(self.reader, 65536):
                received += part
        except BlockingIOError:
            pass
        return received


@pytest.mark.timeout(10)
@pytest.mark.parametrize("size", [10, 3000, 30_000])
def test_a_full_pipe_stops_nobody_and_tears_no_line(size: int) -> None:
    pipe = Pipe()
    sink = Sink(pipe.writer)
    received = b""
    for number in range(300):
        sink.info(json.dumps({"number": number, "fill": "x" * size}).encode())
        if number % 100 == 99:
            received += pipe.read()
    for number in (300, 301, 302):
        received += pipe.read()
        sink.info(json.dumps({"number": number}).encode())
    received += pipe.read()
    numbers = [json.loads(line)["number"] for line in received.splitlines()]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 302
    assert os.get_blocking(pipe.writer), "others who write there are not changed"


@pytest.mark.timeout(10)
def test_what_was_dropped_is_told(events: Events) -> None:
    pipe = Pipe()
    sink = Sink(pipe.writer)
    for _ in range(100):
        sink.info(b"x" * 3000)
    assert events() == []
    written = pipe.read().count(b"\n")
    sink.info(b"x")
    [told] = events()
    assert (told["event"], told["lines"]) == ("log lines were dropped", 100 - written)


def test_a_closed_pipe_stops_nobody() -> None:
    pipe = Pipe()
    sink = Sink(pipe.writer)
    os.close(pipe.reader)
    sink.info(b"x")


def test_the_guard_of_the_suite_sees_a_leak() -> None:
    secret = credentials.make_secret(PrincipalKind.API_KEY).secret
    session = mint_v4(make_claims(0))
    assert {secret, session} <= leaks.ISSUED
    assert leaks.find_leaks(f'{{"event":"{secret}"}}', leaks.ISSUED) == {secret}
    assert leaks.find_leaks(f"sent {session}", leaks.ISSUED)
    assert not leaks.find_leaks(secret[:10], leaks.ISSUED)
