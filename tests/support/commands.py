"""The command line, called by tests."""

import re
import shlex
from typing import Any

from click.testing import CliRunner, Result

from harborguard.cli import main


class Commands:
    """Run the command `harborguard` in this process, with one database."""

    def __init__(self, database_url: str) -> None:
        self.environment = {"DATABASE_URL": database_url}

    def __call__(self, line: str, **kwargs: object) -> Result:
        options: Any = {"env": self.environment, **kwargs}
        return CliRunner().invoke(main, shlex.split(line), **options)

    def secret(self, line: str) -> str:
        """Run a command that creates a secret; return the secret, its only standard output."""
        result = self(line)
        assert result.exit_code == 0, result.output
        assert re.fullmatch(r"hg_(ak|pat)_[0-9a-f]{48}\n", result.stdout)
        assert result.stdout.strip() not in result.stderr
        return result.stdout.strip()
