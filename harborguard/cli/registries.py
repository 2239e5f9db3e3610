"""Registries: made, listed, and read."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from typing import TextIO

import click

from harborguard.cli.database import open_database
from harborguard.cli.terminal import Name, describe, print_table, printable, say
from harborguard.config import Config
from harborguard.errors import InvalidReference, RegistryError, RegistryUnavailable
from harborguard.oci import Credentials, RegistryClient
from harborguard.oci.sync import (
    PROVIDERS,
    Outcome,
    Selection,
    SyncPlan,
    detect_provider,
    plan_sync,
    synchronize,
)
from harborguard.references import parse_host, parse_reference
from harborguard.store import organizations, registries
from harborguard.store.connection import Connection

_LINE_EVERY = 50
_MAX_PASSWORD = 1 << 16


class Host(click.ParamType[str]):
    """A registry's host, as images are named after it."""

    name = "HOST"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The host, normalized; fails for what no image's name can begin with."""
        if not _can_begin_a_name(value):
            self.fail(f"{value!r} is not a registry's host, like ghcr.io or localhost:5000")
        return parse_host(value)


@click.group()
def registry() -> None:
    """Registries: where images live."""


@registry.command("add")
@click.argument("host", type=Host())
@click.option("--org", "organization", required=True, metavar="ORG")
@click.option("--name", type=Name(), help="For people; the host where none is given.")
@click.option("--provider", type=click.Choice(PROVIDERS), help="Told by the host where it can be.")
def add_registry(host: str, *, organization: str, name: str | None, provider: str | None) -> None:
    """Make a registry, or change the name or provider of one that is there."""
    with open_database() as conn:
        registry_id = registries.upsert_registry(
            conn,
            organizations.get_organization(conn, organization),
            host,
            default_provider=detect_provider(host),
            name=name,
            provider=provider,
        )
    say(f"registry {host} is {registry_id}")


@registry.command("list")
@click.option("--org", "organization", required=True, metavar="ORG")
def list_registries(organization: str) -> None:
    """List an organization's registries, by host."""
    with open_database() as conn:
        organization_id = organizations.get_organization(conn, organization)
        print_table(registries.list_registries(conn, organization_id))


@registry.command("sync")
@click.argument("host", type=Host())
@click.option("--org", "organization", required=True, metavar="ORG")
@click.option("--include", multiple=True, metavar="GLOB", help="Only these repositories.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="All but these repositories.")
@click.option("--username", metavar="USER")
@click.option("--password-file", type=click.File(encoding="utf-8"), help="- for standard input.")
@click.option("--plain-http", is_flag=True, help="For a registry without TLS.")
def sync_registry(
    host: str,
    *,
    organization: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    username: str | None,
    password_file: TextIO | None,
    plain_http: bool,
) -> None:
    """Make the inventory's tags those that a registry shows; its images are scanned elsewhere.

    New repositories become images without a score, tags that are gone are removed. The exit status
    is 1 if any repository could not be read; such a one is left as it was. The password is read
    from the file, else from HARBORGUARD_REGISTRY_PASSWORD.
    """
    credentials = _read_credentials(username, password_file)
    source = RegistryClient(host, credentials=credentials, is_plain=plain_http)
    with open_database() as conn, closing(source):
        organization_id = organizations.get_organization(conn, organization)
        try:
            plan = plan_sync(conn, organization_id, source, Selection(include, exclude))
        except RegistryError as error:
            raise click.ClickException(f"{host}: {describe(error)}") from error
        _synchronize(conn, source, plan)


def _read_credentials(username: str | None, password_file: TextIO | None) -> Credentials | None:
    if username is None:
        if password_file is not None:
            raise click.UsageError("--password-file needs --username")
        return None
    if ":" in username:
        raise click.UsageError("a user name cannot have a colon")
    password = _read(password_file) if password_file else Config.from_env().registry_password
    if not password:
        raise click.UsageError(
            "--username needs a password: --password-file, or HARBORGUARD_REGISTRY_PASSWORD"
        )
    return Credentials(username, password)


def _read(password_file: TextIO) -> str:
    try:
        return password_file.read(_MAX_PASSWORD).rstrip("\r\n")
    except UnicodeDecodeError:
        raise click.UsageError("the password file is not text in UTF-8") from None


def _synchronize(conn: Connection, source: RegistryClient, plan: SyncPlan) -> None:
    totals: Counter[str] = Counter()
    failures: list[str] = []
    try:
        for outcome in _watched(synchronize(conn, source, plan), plan):
            totals.update(asdict(outcome.changes))
            if outcome.error is not None:
                failures.append(f"{printable(outcome.repository)}: {describe(outcome.error)}")
    except RegistryUnavailable as error:
        failures.append(describe(error))
    for line in failures:
        say(line)
    say(
        f"{len(plan.repositories)} repositories, {totals['observed']} tags: {totals['added']} new, "
        f"{totals['moved']} moved, {totals['removed']} removed; {len(failures)} failed"
    )
    if failures:
        sys.exit(1)


def _watched(outcomes: Iterable[Outcome], plan: SyncPlan) -> Iterator[Outcome]:
    """The outcomes, shown as a bar to a person who is watching, else as a line now and then."""
    total = len(plan.repositories) + len(plan.removed)
    if sys.stderr.isatty():
        with click.progressbar(outcomes, total, "reading", file=sys.stderr) as bar:
            yield from bar
        return
    for number, outcome in enumerate(outcomes, 1):
        yield outcome
        if number % _LINE_EVERY == 0:
            say(f"{number} of {total} repositories")


def _can_begin_a_name(written: str) -> bool:
    try:
        host = parse_host(written)
        return parse_reference(f"{host}/image").host == host
    except InvalidReference:
        return False
