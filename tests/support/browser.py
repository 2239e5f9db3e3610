"""Headless Chromium, controlled by Playwright."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@dataclass
class Tab:
    """A tab. `requests` has the URLs that it requested, `problems` its errors and warnings."""

    page: Page
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._record)

    def _record(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(message.text)


@contextmanager
def running_browser(chromium: str) -> Iterator[Browser]:
    """Start a browser and stop it at the end."""
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_tab(browser: Browser, **options: Any) -> Iterator[Tab]:
    """Yield a tab with an empty profile; options are those of a browser context."""
    defaults = {"viewport": {"width": 1280, "height": 1600}, "locale": "en-GB"}
    context = browser.new_context(**{**defaults, "timezone_id": "UTC", **options})
    context.set_default_timeout(60_000)
    try:
        yield Tab(context.new_page())
    finally:
        context.close()
