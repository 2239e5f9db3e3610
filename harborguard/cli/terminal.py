"""What the commands say, and how: secrets, tables, errors, expiries."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from harborguard.auth.credentials import NewSecret
from harborguard.errors import HarborGuardError
from harborguard.store.errors import translate_error

MAX_NAME = 200
MANY_FILES = 5


class Expiry(click.ParamType[datetime]):
    """A number of days (`90d`) from now, or a date (2027-01-31, at its beginning in UTC)."""

    name = "90d|DATE"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The moment meant; fails for what is neither, and for one that has passed."""
        now = datetime.now(UTC)
        try:
            moment = _parse_moment(value, now)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a number of days like 90d nor a date like 2027-01-31")
        if moment <= now:
            self.fail(f"{value!r} has passed already")
        return moment


class Name(click.ParamType[str]):
    """A name for people: 1..200 printable characters, not blank."""

    name = "NAME"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as it is; fails for what is none."""
        if not (value.strip() and value.isprintable() and len(value) <= MAX_NAME):
            self.fail(f"a name is 1 to {MAX_NAME} printable characters, not all blank")
        return value


class Email(click.ParamType[str]):
    """An e-mail address, as far as its form can tell."""

    name = "EMAIL"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The address lower-cased, as it is kept; fails for what is none."""
        address = value.strip().lower()
        if not re.fullmatch(r"[^@\s]+@[^@\s]+", address) or not address.isprintable():
            self.fail("an e-mail address is written like person@example.org")
        return address


class Commands(click.Group):
    """A group whose commands fail with one clear line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; what goes wrong in the field's words is told in them."""
        try:
            return super().invoke(ctx)
        except HarborGuardError as error:
            raise click.ClickException(describe(error)) from error
        except Exception as error:
            known = translate_error(error)
            if known is None:
                raise
            raise click.ClickException(f"{known.message} ({printable(str(error))})") from error


Tell = Callable[[str], None]


@contextmanager
def progress(names: Sequence[str]) -> Iterator[tuple[Iterable[str], Tell]]:
    """The names, and how to tell about each: at once, or after a bar where there are many.

    The bar is for a person who is watching many files; a line in between would break it.
    """
    if len(names) < MANY_FILES or not sys.stderr.isatty():
        yield names, say
        return
    lines: list[str] = []
    with click.progressbar(names, file=sys.stderr, label="recording") as bar:
        yield bar, lines.append
    for line in lines:
        say(line)


def describe(error: HarborGuardError) -> str:
    """An error on one line, with what it says of each field."""
    told = [f"{issue.path}: {issue.message}" for issue in error.issues]
    return printable(" ".join([error.message, *told]))


def say(line: str) -> None:
    """Tells the person at the terminal."""
    click.echo(line, err=True)


def say_secret(subject: str, secret: NewSecret) -> None:
    """Shows a secret the only time it can be shown, so that `KEY=$(...)` catches it alone."""
    say(f"{subject} is made; its secret cannot be shown again:")
    click.echo(secret.secret)


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Rows under their column names; times to the second, UTC."""
    if not rows:
        say("none")
        return
    table = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def printable(text: str) -> str:
    """A stranger's text without what a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return "-" if value is None else printable(str(value))


def _parse_moment(text: str, now: datetime) -> datetime:
    if text[-1:] in {"d", "D"} and text[:-1].isdecimal():
        return now + timedelta(days=int(text[:-1]))
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
