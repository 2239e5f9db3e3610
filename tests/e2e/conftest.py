"""Fixtures of the end-to-end tests."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from harborguard.store.connection import Connection
from tests.support.browser import running_browser
from tests.support.commands import Commands
from tests.support.cookies import SECRET
from tests.support.fault_injection import (
    deployed_as_shipped,
    require_program,
    short_directory,
)
from tests.support.service import Service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return Chromium. Without it, skip the test, or fail it in CI."""
    with running_browser(require_program("chromium")) as browser:
        yield browser


@pytest.fixture
def run(conn: Connection, database_url: str) -> Commands:
    """Return the command line on a database that has only the organization acme."""
    commands = Commands(database_url)
    assert commands("org create acme").exit_code == 0
    return commands


@pytest.fixture(scope="module")
def deployed_service(database_url: str) -> Iterator[Service]:
    """Run the service behind nginx as it is shipped, with all of its limits.

    Each visit of the page without a key is a rejected request, and all come from one address.
    """
    settings = {"NEXTAUTH_SECRET": SECRET, "HARBORGUARD_REJECTIONS_PER_MINUTE": "1000000"}
    with (
        short_directory() as directory,
        deployed_as_shipped(directory, database_url, **settings) as service,
    ):
        yield service
