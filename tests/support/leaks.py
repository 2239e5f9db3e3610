"""What was made secret during a run, and what was said: the two must not meet."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harborguard.auth import credentials
from tests.support import cookies

ISSUED: set[str] = {cookies.SECRET, cookies.OTHER_SECRET}
SAID: list[list[str]] = []

_WORD = re.compile(r"[A-Za-z0-9_-]{16,}")


@contextmanager
def recording_secrets() -> Iterator[None]:
    """Every key, token and session cookie that is made meanwhile is remembered."""
    with pytest.MonkeyPatch.context() as patch:
        # Below the functions that others import by name: what these look up when they are called.
        patch.setattr(credentials, "NewSecret", _remember(credentials.NewSecret, "secret"))
        patch.setattr(cookies, "seal", _remember(cookies.seal))
        yield


def _remember(make: Callable[..., Any], attribute: str = "") -> Callable[..., Any]:
    def remembering(*args: Any, **kwargs: Any) -> Any:
        made = make(*args, **kwargs)
        ISSUED.add(getattr(made, attribute) if attribute else made)
        return made

    return remembering


def find_leaks(text: str, secrets: set[str]) -> set[str]:
    """The parts of secrets that stand in a text; a session's header is no secret."""
    parts = {word for secret in secrets for word in _WORD.findall(re.sub(r"^eyJ[^.]*", "", secret))}
    return parts & set(_WORD.findall(text))
