"""Visit the page for people, and read what it shows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import Tab, open_tab
from tests.support.service import Service

# Where the page keeps a key if a person asks for it.
STORED = "harborguard.key"


def origin_of(service: Service) -> str:
    """Return the origin of a service, without a slash."""
    return f"http://127.0.0.1:{service.port}"


@contextmanager
def visit(
    browser: Browser, service: Service, path: str = "/", key: str = "", **options: Any
) -> Iterator[Tab]:
    """Open an address of the page, with a key that the page has kept for this tab.

    Fail if the page requested anything of another host.
    """
    with open_tab(browser, **options) as tab:
        if key:
            tab.page.add_init_script(f"sessionStorage.setItem('{STORED}', '{key}')")
        tab.page.goto(f"{origin_of(service)}{path}")
        yield tab
        others = [url for url in tab.requests if not url.startswith(f"{origin_of(service)}/")]
        assert others == []


def enter_key(page: Page, key: str) -> None:
    """Enter a key in the form."""
    page.get_by_label("API key or personal access token").fill(key)
    page.get_by_role("button", name="Show the images").click()


def query_of(page: Page) -> dict[str, str]:
    """Return the query of the address."""
    return {name: value for name, [value] in parse_qs(urlsplit(page.url).query).items()}


def rows_of(page: Page) -> Locator:
    """Return the rows of the inventory."""
    return page.locator("#inventory tbody tr")


def expect_names(page: Page, *expected: str) -> None:
    """Wait until the inventory lists these images, in this order, by their paths."""
    expect(page.locator("#inventory tbody th a")).to_have_text(list(expected))


def chip(page: Page | Locator, group: str, name: str) -> Locator:
    """Return a chip of a group, by the beginning of its label."""
    return page.get_by_role("group", name=group).get_by_role("button", name=name)


def drawer(page: Page) -> Locator:
    """Return the drawer with an image."""
    return page.get_by_role("dialog")
