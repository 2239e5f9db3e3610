"""Changes to the behaviour of gunicorn and prometheus-client.

Each patch relies on internals of a library whose version pyproject.toml bounds. It checks them
when it is applied, and raises RuntimeError if the library has changed.
"""

import inspect
import json
import signal
from collections.abc import Callable
from http import HTTPStatus
from socket import socket
from types import ModuleType
from typing import Any, cast

import prometheus_client.metrics
from gunicorn import util
from gunicorn.arbiter import Arbiter
from gunicorn.http.wsgi import Response
from gunicorn.workers.base import Worker
from prometheus_client import Counter, Gauge, Histogram, values

TERMINATION_SIGNALS = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT))


def apply() -> None:
    """Patch gunicorn, and check the internals that `store_metrics_in_files` changes.

    gunicorn reads its configuration again at each reload; applying a patch twice changes nothing.
    """
    patch_write_error(util)
    patch_response_write(Response)
    patch_spawn_worker(Arbiter)
    check_metric_values(values)


def patch_write_error(module: ModuleType) -> None:
    """Send gunicorn's own error responses in the JSON envelope of the API.

    gunicorn 27: `Worker.handle_error` (workers/base.py) calls `util.write_error`, which sends HTML
    that repeats bytes of the request.
    """
    if _is_patched(module.write_error):
        return
    _expect_parameters(module.write_error, "sock", "status_int", "reason", "mesg")
    _expect_parameters(module.write_nonblock, "sock", "data", "chunked")
    _expect_names(Worker.handle_error, "util", "write_error")
    vars(module)["write_error"] = write_error


def write_error(sock: socket, status_int: int, reason: str, mesg: str) -> None:  # noqa: ARG001
    """Send an error response in the envelope; drop `mesg`, which quotes the request."""
    code = {413: "PAYLOAD_TOO_LARGE", 500: "INTERNAL_ERROR"}.get(status_int, "BAD_REQUEST")
    message = HTTPStatus(status_int).phrase
    body = json.dumps({"error": {"code": code, "message": message}}, separators=(",", ":"))
    head = (
        f"HTTP/1.1 {status_int} {message}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    util.write_nonblock(sock, f"{head}{body}".encode("ascii"))


class _SendBuffer(bytearray):
    """Stand-in for a socket that collects what is sent."""

    sendall = bytearray.extend


def patch_response_write(response_class: type[Response]) -> None:
    """Send the head and the first part of the body of a response in one system call.

    gunicorn 27: `Response.write` (http/wsgi.py) sends the head first. If the worker exits between
    the two, nginx has the head of a response and cannot retry the request on another worker.
    """
    original = response_class.write
    if _is_patched(original):
        return
    _expect_parameters(original, "self", "arg")
    _expect_names(original, "send_headers")
    _expect_names(response_class.__init__, "sock", "headers_sent")
    _expect_names(response_class.send_headers, "sock", "headers_sent")
    for function in (util.write, util.write_chunk):
        _expect_names(function, "sendall")

    def write(self: Response, arg: bytes) -> None:
        if self.headers_sent:
            original(self, arg)
            return
        sock, buffer = self.sock, _SendBuffer()
        self.sock = cast(socket, buffer)
        try:
            original(self, arg)
        finally:
            self.sock = sock
        sock.sendall(buffer)

    response_class.write = write


def patch_spawn_worker(arbiter_class: type[Arbiter]) -> None:
    """Block termination signals across fork, until `post_fork` has installed the worker's own.

    gunicorn 27: `Arbiter.spawn_worker` (arbiter.py) forks with the master's handlers in place.
    They queue a signal for the master's loop, which a worker does not run, so the signal is lost.
    """
    original = arbiter_class.spawn_worker
    if _is_patched(original):
        return
    _expect_parameters(original, "self")
    _expect_names(original, "fork", "post_fork", "init_process")

    def spawn_worker(self: Arbiter) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, TERMINATION_SIGNALS)
        try:
            return original(self)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINATION_SIGNALS)

    arbiter_class.spawn_worker = spawn_worker


def check_metric_values(module: ModuleType) -> None:
    """Raise RuntimeError unless prometheus-client reads `values.ValueClass` for each new series.

    prometheus-client 0.26: values.py sets `ValueClass` at import, from the environment, and has no
    function to change it. A worker's slot is not known until the fork.
    """
    _expect_parameters(module.MultiProcessValue, "process_identifier")
    _expect(inspect.isclass(module.MutexValue), "values.MutexValue is not a class")
    _expect(
        prometheus_client.metrics.values is values, "metrics.py does not import the module values"
    )
    for metric in (Counter, Gauge, Histogram):
        _expect_names(vars(metric)["_metric_init"], "values", "ValueClass")


def store_metrics_in_files(slot: int) -> None:
    """Make the series created from now on count in the files of a slot."""
    values.ValueClass = values.MultiProcessValue(lambda: slot)


def store_metrics_in_memory() -> None:
    """Make the series created from now on count in this process only."""
    values.ValueClass = values.MutexValue


def _is_patched(function: Callable[..., Any]) -> bool:
    return function.__module__ == __name__


def _expect_parameters(function: Callable[..., Any], *names: str) -> None:
    actual = tuple(inspect.signature(function).parameters)
    _expect(actual == names, f"{_name(function)} takes {actual}, not {names}")


def _expect_names(function: Callable[..., Any], *names: str) -> None:
    """Require that a function reads or writes these globals and attributes."""
    missing = set(names) - set(inspect.unwrap(function).__code__.co_names)
    _expect(not missing, f"{_name(function)} does not use {sorted(missing)}")


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _expect(condition: object, problem: str) -> None:
    if not condition:
        raise RuntimeError(
            f"{problem}: harborguard/gunicorn/patches.py is not compatible with the installed "
            "version"
        )
