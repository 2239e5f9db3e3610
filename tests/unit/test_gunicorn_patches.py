"""Each patch checks what it expects of a library, and rejects a library that has changed."""

import inspect
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from gunicorn import util
from gunicorn.arbiter import Arbiter
from gunicorn.config import KNOWN_SETTINGS
from gunicorn.http.wsgi import Response
from gunicorn.workers.base import Worker
from prometheus_client import Counter, values

from app import create_app
from harborguard.config import Config
from harborguard.gunicorn import patches
from harborguard.gunicorn.hooks import HOOKS, ServerHooks
from harborguard.gunicorn.settings import make_settings


def copy_of(original: Any) -> Any:
    """Return a module or class with the same attributes, which a test may change or patch."""
    if inspect.ismodule(original):
        copy = ModuleType(original.__name__)
        vars(copy).update(vars(original))
        return copy
    return type(original.__name__, (original,), {})


class Recorder:
    """Stand-in for a socket that records each call of `sendall`."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.sent.append(bytes(data))

    def gettimeout(self) -> float:
        return 0.0


def respond(response_class: type[Response], *parts: bytes) -> list[bytes]:
    """Send a response of these parts and return what reached the socket, call by call."""
    sock = Recorder()
    request: Any = SimpleNamespace(method="GET", version=(1, 1), should_close=lambda: True)
    cfg: Any = SimpleNamespace(protocol="http")
    response = response_class(request, sock, cfg)  # pyright: ignore[reportArgumentType]
    length = str(sum(map(len, parts)))
    response.start_response("200 OK", [("Content-Length", length)])
    for part in parts:
        response.write(part)
    assert response.sock is sock
    return sock.sent


def no_parameters() -> None:
    """Stand-in for a function whose signature has changed."""


def other_write(self: Response, arg: bytes) -> None:
    """Stand-in for a method that works in another way."""


CHANGES = [
    (patches.patch_write_error, util, "write_error", no_parameters),
    (patches.patch_write_error, util, "write_nonblock", no_parameters),
    (patches.patch_response_write, Response, "write", no_parameters),
    (patches.patch_response_write, Response, "write", other_write),
    (patches.patch_response_write, Response, "send_headers", other_write),
    (patches.patch_response_write, Response, "__init__", other_write),
    (patches.patch_spawn_worker, Arbiter, "spawn_worker", no_parameters),
    (patches.patch_spawn_worker, Arbiter, "spawn_worker", lambda self: 0),
    (patches.check_metric_values, values, "MultiProcessValue", no_parameters),
    (patches.check_metric_values, values, "MutexValue", None),
]


@pytest.mark.parametrize(
    ("patch", "target", "name", "changed"),
    CHANGES,
    ids=[
        f"{target.__name__}.{name}-{number}" for number, (_, target, name, _) in enumerate(CHANGES)
    ],
)
def test_patch_of_a_changed_library_raises(
    patch: Callable[[Any], None], target: Any, name: str, changed: object
) -> None:
    copy = copy_of(target)
    setattr(copy, name, changed)
    with pytest.raises(RuntimeError, match="is not compatible with the installed version"):
        patch(copy)
    assert getattr(copy, name) is changed


def test_patch_write_error_requires_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "handle_error", no_parameters)
    with pytest.raises(RuntimeError, match=r"does not use \['util', 'write_error'\]"):
        patches.patch_write_error(copy_of(util))


def test_patch_response_write_requires_sendall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "write", no_parameters)
    with pytest.raises(RuntimeError, match=r"does not use \['sendall'\]"):
        patches.patch_response_write(copy_of(Response))


def test_check_metric_values_requires_a_lookup_per_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counter, "_metric_init", no_parameters)
    with pytest.raises(RuntimeError, match=r"does not use \['ValueClass', 'values'\]"):
        patches.check_metric_values(values)


@pytest.mark.parametrize(
    ("patch", "target", "name"),
    [
        (patches.patch_write_error, util, "write_error"),
        (patches.patch_response_write, Response, "write"),
        (patches.patch_spawn_worker, Arbiter, "spawn_worker"),
    ],
)
def test_patch_applied_twice_wraps_once(
    patch: Callable[[Any], None], target: Any, name: str
) -> None:
    """gunicorn reads its configuration again at each reload."""
    copy = copy_of(target)
    patch(copy)
    patched = getattr(copy, name)
    assert patched is not getattr(target, name)
    patch(copy)
    assert getattr(copy, name) is patched


def test_patched_response_sends_head_and_body_at_once() -> None:
    patched = copy_of(Response)
    patches.patch_response_write(patched)
    assert len(respond(Response, b"one", b"two")) == 3
    first, second = respond(patched, b"one", b"two")
    assert first.endswith(b"\r\n\r\none")
    assert second == b"two"
    assert b"".join([first, second]) == b"".join(respond(Response, b"one", b"two"))


def test_write_error_sends_the_envelope_without_the_request() -> None:
    sock = Recorder()
    patches.write_error(sock, 414, "URI Too Long", "<script>")  # pyright: ignore[reportArgumentType]
    [sent] = sock.sent
    assert sent.startswith(b"HTTP/1.1 414 ")
    assert b'{"error":{"code":"BAD_REQUEST","message":"' in sent
    assert b"script" not in sent


def test_settings_and_hooks_are_known_to_gunicorn() -> None:
    """gunicorn ignores names that it does not know."""
    config = Config(database_url="host=/nowhere")
    settings = make_settings(config, ServerHooks(config, create_app))
    assert set(HOOKS) < set(settings) <= {setting.name for setting in KNOWN_SETTINGS}
