"""Fixtures of the end-to-end tests."""

import pytest

from harborguard.store.connection import Connection
from tests.support.commands import Commands


@pytest.fixture
def run(conn: Connection, database_url: str) -> Commands:
    """Return the command line on a database that has only the organization acme."""
    commands = Commands(database_url)
    assert commands("org create acme").exit_code == 0
    return commands
