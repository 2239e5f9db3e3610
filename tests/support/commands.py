"""`harborguard`, typed by a test."""

import re

from click.testing import CliRunner, Result

from harborguard.cli import main


class Commands:
    """`harborguard`, typed."""

    def __init__(self, database_url: str) -> None:
        self.environment = {"DATABASE_URL": database_url}

    def __call__(self, line: str, **kwargs: object) -> Result:
        return CliRunner().invoke(main, line.split(), env=self.environment, **kwargs)  # pyright: ignore

    def secret(self, line: str) -> str:
        """What a command that makes a secret prints on standard output: that alone."""
        result = self(line)
        assert result.exit_code == 0, result.output
        assert re.fullmatch(r"hg_(ak|pat)_[0-9a-f]{48}\n", result.stdout)
        assert result.stdout.strip() not in result.stderr
        return result.stdout.strip()
