"""Parameter types of the commands, and how they print messages, secrets, tables and errors."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from harborguard.auth.credentials import NewSecret
from harborguard.errors import HarborGuardError, InvalidReference
from harborguard.references import parse_host, parse_reference
from harborguard.store.errors import translate_error

MAX_NAME = 200
MAX_DAYS = 36500
PROGRESS_BAR_FROM = 5  # files
PROGRESS_INTERVAL = 10_000  # images per progress line without a terminal
ALL_ORGANIZATIONS_HELP = "Id or name of the organization. Default: all organizations."
EXPIRES_HELP = "Days from now (90d) or a date or time, in UTC if it has no offset. Default: never."
_LINE_BREAKS = re.compile(r"[\t-\r]+")

org_option = click.option(
    "--org",
    "organization",
    required=True,
    metavar="ORG",
    help="Id or name of the organization.",
)


class Expiry(click.ParamType[datetime]):
    """Expiry time: days from now (90d), or an ISO 8601 date or time (UTC if it has no offset)."""

    name = "90d|DATE"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the time; fail if the value is malformed or the time has passed."""
        now = datetime.now(UTC)
        try:
            moment = _parse_moment(value, now)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a number of days like 90d or a date like 2027-01-31")
        if moment <= now:
            self.fail(f"{value!r} is in the past")
        return moment


class Age(click.ParamType[datetime | None]):
    """The time a number of days ago (90d), at least one; None for `never`, if that is allowed."""

    name = "90d"

    def __init__(self, *, allow_never: bool = False) -> None:
        self._allow_never = allow_never

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime | None:
        """Return the time; fail if the value is malformed, less than a day or too long."""
        if self._allow_never and value.lower() == "never":
            return None
        days = _parse_days(value)
        if days is None or not 1 <= days <= MAX_DAYS:
            alternative = ", or never" if self._allow_never else ""
            self.fail(f"{value!r} is not a number of days from 1d to {MAX_DAYS}d{alternative}")
        return datetime.now(UTC) - timedelta(days=days)


class Name(click.ParamType[str]):
    """Display name: 1..200 printable characters, not only spaces."""

    name = "NAME"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name unchanged; fail if it is not valid."""
        if not (value.strip() and value.isprintable() and len(value) <= MAX_NAME):
            self.fail(f"a name has 1 to {MAX_NAME} printable characters, not only spaces")
        return value


class Email(click.ParamType[str]):
    """E-mail address; only its form is checked."""

    name = "EMAIL"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the address in lower case; fail if it is malformed."""
        address = value.strip().lower()
        if not re.fullmatch(r"[^@\s]+@[^@\s]+", address) or not address.isprintable():
            self.fail("an e-mail address has the form person@example.org")
        return address


class Host(click.ParamType[str]):
    """Registry host: the part of an image name before the repository."""

    name = "HOST"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the normalized host; fail if image names cannot contain it."""
        if not _is_host_of_image_names(value):
            self.fail(f"{value!r} is not a registry host like ghcr.io or localhost:5000")
        return parse_host(value)


class Commands(click.Group):
    """Command group that reports expected errors on one line, with exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; raise ClickException for a domain error and an unavailable database."""
        try:
            return super().invoke(ctx)
        except HarborGuardError as error:
            raise click.ClickException(describe(error)) from error
        except Exception as error:
            translated = translate_error(error)
            if translated is None:
                raise
            raise click.ClickException(f"{translated.message} ({printable(str(error))})") from error


PrintLine = Callable[[str], None]


@contextmanager
def progress(names: Sequence[str]) -> Iterator[tuple[Iterable[str], PrintLine]]:
    """Yield the names to process and a function that prints a line about each.

    With many names on a terminal, show a progress bar and print the lines after it, because a line
    in between would break the bar.
    """
    if len(names) < PROGRESS_BAR_FROM or not sys.stderr.isatty():
        yield names, print_message
        return
    lines: list[str] = []
    with click.progressbar(names, file=sys.stderr, label="recording") as bar:
        yield bar, lines.append
    for line in lines:
        print_message(line)


def show_progress(batches: Iterable[int], total: int, *, label: str, noun: str) -> int:
    """Process batches, and return the sum of their sizes, which may differ from `total`.

    Show a progress bar on a terminal, or else print a line at intervals.
    """
    processed = 0
    if sys.stderr.isatty():
        with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
            for size in batches:
                processed += size
                bar.update(size)
        return processed
    for size in batches:
        processed += size
        if processed // PROGRESS_INTERVAL > (processed - size) // PROGRESS_INTERVAL:
            print_message(f"{processed} of {total} {noun}")
    return processed


def require_terminal(option: str) -> None:
    """Raise UsageError unless there is a terminal to ask on; `option` replaces the question."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"this needs a confirmation: use a terminal, or {option}")


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural if needed."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def describe(error: HarborGuardError) -> str:
    """Return an error's message on one line, with the issues that the message does not contain."""
    issues = [
        f"{issue.path}: {issue.message}"
        for issue in error.issues
        if issue.message not in error.message
    ]
    return printable(" ".join([error.message, *issues]))


def print_message(line: str) -> None:
    """Print a line to standard error."""
    click.echo(line, err=True)


def print_secret(subject: str, secret: NewSecret) -> None:
    """Print a new secret alone on standard output, so that `KEY=$(...)` captures only it."""
    print_message(f"created {subject}; its secret is shown only once:")
    click.echo(secret.secret)


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows on standard output under their column names, with times in UTC to the second.

    If there are no rows, print "none" on standard error instead.
    """
    if not rows:
        print_message("none")
        return
    table = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def printable(text: str) -> str:
    """Return text on one line, with "?" for control characters, which a terminal interprets."""
    line = _LINE_BREAKS.sub(" ", text)
    return "".join(character if character.isprintable() else "?" for character in line)


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return "-" if value is None else printable(str(value))


def _parse_moment(text: str, now: datetime) -> datetime:
    if (days := _parse_days(text)) is not None:
        return now + timedelta(days=days)
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _parse_days(text: str) -> int | None:
    """Return the number of a text like 90d, or None if it has another form."""
    return int(text[:-1]) if text[-1:] in {"d", "D"} and text[:-1].isdecimal() else None


def _is_host_of_image_names(value: str) -> bool:
    try:
        host = parse_host(value)
        return parse_reference(f"{host}/image").host == host
    except InvalidReference:
        return False
