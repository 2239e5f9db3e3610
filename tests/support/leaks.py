"""Record the secrets and the output of a test run, and search one for the other."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harborguard.auth import credentials
from tests.support import cookies

ISSUED: set[str] = {cookies.SECRET, cookies.OTHER_SECRET}
OUTPUTS: list[list[str]] = []

_WORD = re.compile(r"[A-Za-z0-9_-]{16,}")


@contextmanager
def recording_secrets() -> Iterator[None]:
    """Record every key, token and session cookie that is created during the block."""
    with pytest.MonkeyPatch.context() as patch:
        # Other modules import the public functions by name. These are looked up at each call.
        patch.setattr(credentials, "NewSecret", _recording(credentials.NewSecret, "secret"))
        patch.setattr(cookies, "seal", _recording(cookies.seal))
        yield


def _recording(make: Callable[..., Any], attribute: str = "") -> Callable[..., Any]:
    def record(*args: Any, **kwargs: Any) -> Any:
        made = make(*args, **kwargs)
        ISSUED.add(getattr(made, attribute) if attribute else made)
        return made

    return record


def find_leaks(text: str, secrets: set[str]) -> set[str]:
    """Return the parts of secrets that a text contains; the header of a JWE is not secret."""
    parts = {word for secret in secrets for word in _WORD.findall(re.sub(r"^eyJ[^.]*", "", secret))}
    return parts & set(_WORD.findall(text))
