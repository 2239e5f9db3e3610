"""The command line, for all who type it."""

import pytest

from harborguard.store.connection import Connection
from tests.support.commands import Commands


@pytest.fixture
def run(conn: Connection, database_url: str) -> Commands:
    """The commands, on an empty database with one organization."""
    commands = Commands(database_url)
    assert commands("org create acme").exit_code == 0
    return commands
