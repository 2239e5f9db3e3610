"""Commands for registries: add, list, sync, remove."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from typing import TextIO

import click

from harborguard.cli.actor import command_actor
from harborguard.cli.database import open_database
from harborguard.cli.terminal import (
    Host,
    Name,
    count,
    describe,
    org_option,
    print_message,
    print_table,
    printable,
    require_terminal,
    show_progress,
)
from harborguard.config import Config
from harborguard.errors import NotFound, RegistryError, RegistryUnavailable
from harborguard.oci import Credentials, RegistryClient
from harborguard.oci.sync import (
    Provider,
    RepositoryOutcome,
    Selection,
    SyncPlan,
    detect_provider,
    plan_sync,
    synchronize,
)
from harborguard.store import deletion, organizations, registries
from harborguard.store.connection import Connection
from harborguard.store.errors import retry_once

_PROGRESS_INTERVAL = 50  # repositories per progress line without a terminal
_MAX_INACCESSIBLE = 10  # repositories that the message about denied access names
_MAX_PASSWORD = 1 << 16


@click.group()
def registry() -> None:
    """Manage registries and sync their images."""


@registry.command("add")
@click.argument("host", type=Host())
@org_option
@click.option("--name", type=Name(), help="Display name. Default: the host.")
@click.option(
    "--provider",
    type=click.Choice([provider.value for provider in Provider]),
    help="Default: detected from the host's domain.",
)
def add_registry(host: str, *, organization: str, name: str | None, provider: str | None) -> None:
    """Create a registry, or change the name or provider of an existing one."""
    actor = command_actor()
    with open_database() as conn:
        organization_id = organizations.get_organization(conn, organization)
        registry_id = retry_once(
            lambda: registries.upsert_registry(
                conn,
                organization_id,
                host,
                actor=actor,
                default_provider=detect_provider(host).value,
                name=name,
                provider=provider,
            )
        )
    print_message(f"saved registry {host}: {registry_id}")


@registry.command("list")
@org_option
def list_registries(organization: str) -> None:
    """List an organization's registries by host."""
    with open_database() as conn:
        organization_id = organizations.get_organization(conn, organization)
        print_table(registries.list_registries(conn, organization_id))


@registry.command("sync")
@click.argument("host", type=Host())
@org_option
@click.option(
    "--include", multiple=True, metavar="GLOB", help="Sync only matching repositories. Repeatable."
)
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Skip matching repositories. Repeatable."
)
@click.option("--username", metavar="USER", help="User name at the registry.")
@click.option(
    "--password-file",
    type=click.File(encoding="utf-8"),
    help="File with the password or token; - for standard input. Requires --username.",
)
@click.option("--plain-http", is_flag=True, help="Connect without TLS.")
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
    """Record the repositories and tags of a registry. Images are not scanned.

    A new repository becomes an image without a score. A tag is removed if the registry reports that
    it does not exist.

    A repository or tag that cannot be read is left unchanged, and the exit status is 1. A recorded
    repository that is not in the catalog and denies access is left unchanged too, but is no
    failure. Without --password-file, the password is read from HARBORGUARD_REGISTRY_PASSWORD.
    """
    credentials = _read_credentials(username, password_file)
    client = RegistryClient(host, credentials=credentials, plain_http=plain_http)
    with open_database() as conn, closing(client):
        organization_id = organizations.get_organization(conn, organization)
        try:
            plan = plan_sync(conn, organization_id, client, Selection(include, exclude))
        except RegistryError as error:
            raise click.ClickException(f"{host}: {describe(error)}") from error
        _synchronize(conn, client, plan)


@registry.command("remove")
@click.argument("host", type=Host())
@org_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove_registry(host: str, *, organization: str, yes: bool) -> None:
    """Delete a registry, its images, and the API keys that are limited to it.

    If the command is interrupted, run it again: it continues. A later report or sync of the
    registry adds it again.
    """
    with open_database() as conn:
        organization_id = organizations.get_organization(conn, organization)
        registry_id = registries.find_registry(conn, organization_id, host)
        if registry_id is None:
            raise NotFound(f"The registry {host} does not exist.")
        counts = deletion.count_registry(conn, organization_id, registry_id)
        print_message(
            f"registry {host} has {count(counts.images, 'image')}, "
            f"and {count(counts.keys, 'API key')} limited to it; all of this is deleted"
        )
        if not yes:
            require_terminal("--yes")
            click.confirm("Remove the registry?", abort=True, err=True)
        batches = deletion.remove_registry(
            conn, organization_id, registry_id, actor=command_actor()
        )
        deleted = show_progress(batches, counts.images, label="deleting", noun="images")
    print_message(f"removed registry {host}: deleted {count(deleted, 'image')}")


def _read_credentials(username: str | None, password_file: TextIO | None) -> Credentials | None:
    if username is None:
        if password_file is not None:
            raise click.UsageError("--password-file requires --username")
        return None
    if ":" in username:
        raise click.UsageError("a user name must not contain a colon")
    if password_file:
        password = _read_password(password_file)
    else:
        password = Config.from_env().registry_password
    if password_file and not password:
        raise click.UsageError("the password file is empty")
    if not password:
        raise click.UsageError(
            "--username requires a password: use --password-file or HARBORGUARD_REGISTRY_PASSWORD"
        )
    return Credentials(username, password)


def _read_password(password_file: TextIO) -> str:
    try:
        return password_file.read(_MAX_PASSWORD).rstrip("\r\n")
    except UnicodeDecodeError:
        raise click.UsageError("the password file is not UTF-8 text") from None


def _synchronize(conn: Connection, client: RegistryClient, plan: SyncPlan) -> None:
    totals: Counter[str] = Counter()
    failures: list[str] = []
    inaccessible: list[str] = []
    processed = 0
    unavailable = ""
    try:
        for outcome in _with_progress(synchronize(conn, client, plan), plan):
            processed += 1
            totals.update(asdict(outcome.changes))
            if outcome.is_inaccessible:
                inaccessible.append(printable(outcome.repository))
            elif outcome.error is not None:
                failures.append(f"{printable(outcome.repository)}: {describe(outcome.error)}")
    except RegistryUnavailable as error:
        unavailable = describe(error)
    for line in failures:
        print_message(line)
    if unavailable:
        print_message(unavailable)
    if inaccessible:
        names = ", ".join(inaccessible[:_MAX_INACCESSIBLE])
        others = len(inaccessible) - _MAX_INACCESSIBLE
        print_message(
            "left unchanged, not in the catalog and access denied (--exclude skips them): "
            + names
            + (f" and {others} more" if others > 0 else "")
        )
    skipped = len(plan.repositories) + len(plan.unlisted) - processed
    print_message(
        f"{len(plan.repositories)} repositories, {totals['observed']} tags: {totals['added']} new, "
        f"{totals['moved']} moved, {totals['removed']} removed; {len(failures)} failed"
        + (f", {len(inaccessible)} inaccessible" if inaccessible else "")
        + (f", {skipped} skipped" if skipped else "")
    )
    if failures or unavailable:
        sys.exit(1)


def _with_progress(
    outcomes: Iterable[RepositoryOutcome], plan: SyncPlan
) -> Iterator[RepositoryOutcome]:
    """Yield the outcomes and show progress: a bar on a terminal, or else a line at intervals."""
    total = len(plan.repositories) + len(plan.unlisted)
    if sys.stderr.isatty():
        with click.progressbar(outcomes, total, "syncing", file=sys.stderr) as bar:
            yield from bar
        return
    for number, outcome in enumerate(outcomes, 1):
        yield outcome
        if number % _PROGRESS_INTERVAL == 0:
            print_message(f"{number} of {total} repositories")
