"""Control headless Chromium over its DevTools pipe: JSON messages that each end with NUL."""

import base64
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--window-size=1280,1600",
    "--remote-debugging-pipe",
)


class BrowserPage:
    """A page. `requests` has the URLs that it requested, `problems` its errors and warnings."""

    def __init__(self, commands: BinaryIO, events: BinaryIO) -> None:
        self._commands, self._events = commands, events
        self._number = 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.problems: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the result of a command; record the events that arrive before it."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            received = self._receive()
            if received.get("id") == self._number:
                assert "error" not in received, received
                return received["result"]
            self._record(received)

    def run(self, script: str) -> Any:
        """Return the value of a script."""
        result = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, script: str) -> Any:
        """Run a script until its value is true, and return the value."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if value := self.run(script):
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true: {script}; {self.problems}")

    def click(self, selector: str) -> None:
        """Click an element as soon as it exists."""
        self.wait(f"!!document.querySelector({selector!r})")
        self.run(f"document.querySelector({selector!r}).click()")

    def type(self, selector: str, text: str) -> None:
        """Type text into a field as soon as it exists."""
        self.wait(f"!!document.querySelector({selector!r})")
        self.run(f"document.querySelector({selector!r}).focus()")
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        """Write a screenshot to a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _receive(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self._events.read(1)) != b"\0":
            assert byte, "the browser has exited"
            message += byte
        return json.loads(message)

    def _record(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Runtime.exceptionThrown":
                self.problems.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in {"error", "warning"}:
                self.problems.append(str(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in {"error", "warning"}:
                self.problems.append(str(parameters["entry"]))


@contextmanager
def open_page(chromium: str) -> Iterator[BrowserPage]:
    """Start a browser with an empty profile and yield a page; stop the browser at the end."""
    to_browser, commands = os.pipe()
    events, from_browser = os.pipe()
    # The browser reads commands from descriptor 3 and writes results and events to descriptor 4.
    redirections = f"3</proc/self/fd/{to_browser} 4>/proc/self/fd/{from_browser}"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        arguments = [*ARGUMENTS, f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            ["sh", "-c", f'exec "$0" "$@" {redirections}', chromium, *arguments],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        with process, os.fdopen(commands, "wb") as out, os.fdopen(events, "rb") as into:
            try:
                yield BrowserPage(out, into)
            finally:
                process.terminate()
                process.wait(timeout=10)
