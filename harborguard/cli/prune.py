"""Command that deletes old data of an organization."""

import sys
from collections.abc import Iterator
from datetime import datetime

import click

from harborguard.cli.actor import command_actor
from harborguard.cli.database import open_database
from harborguard.cli.terminal import Age, org_option, print_message, printable
from harborguard.store import organizations
from harborguard.store.counters import find_image_count
from harborguard.store.prune import Prune, PruneCounts, PrunePolicy

_PROGRESS_INTERVAL = 10_000  # images per progress line without a terminal


@click.command()
@org_option
@click.option(
    "--unseen-for",
    "unseen_since",
    type=Age(),
    metavar="90d",
    help="Delete images that no scan and no sync has seen for so long, and old observations.",
)
@click.option(
    "--keep-scans",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep the N newest scans of each tag, and those that can count; delete the others.",
)
@click.option(
    "--audit-for",
    "audit_since",
    type=Age(allow_never=True),
    metavar="90d|never",
    default="400d",
    show_default=True,
    help="Delete older entries of the audit log.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be deleted; change nothing.")
def prune(
    organization: str,
    *,
    unseen_since: datetime | None,
    keep_scans: int | None,
    audit_since: datetime | None,
    dry_run: bool,
) -> None:
    """Delete old data of an organization; made to be run daily.

    The options decide what is deleted, without a confirmation; --dry-run prints it first. Ages are
    numbers of days, such as 90d. It is safe to stop the command at any moment and to run it again.
    """
    policy = PrunePolicy(unseen_since, keep_scans, audit_since)
    if policy == PrunePolicy():
        raise click.UsageError("nothing to delete: give --unseen-for, --keep-scans or --audit-for")
    with open_database() as conn:
        organization_id = organizations.get_organization(conn, organization)
        run = Prune(conn, organization_id, policy, actor=command_actor(), dry_run=dry_run)
        _show_progress(run.run(), find_image_count(conn, organization_id))
    if dry_run:
        _print_names(run.counts)
    _print_counts(run.counts, "would delete" if dry_run else "deleted")


def _show_progress(windows: Iterator[int], total: int) -> None:
    """Run the windows and show progress: a bar on a terminal, or else a line at intervals."""
    if sys.stderr.isatty():
        with click.progressbar(length=total, label="examining images", file=sys.stderr) as bar:
            for size in windows:
                bar.update(size)
        return
    examined = 0
    for size in windows:
        examined += size
        if examined // _PROGRESS_INTERVAL > (examined - size) // _PROGRESS_INTERVAL:
            print_message(f"examined {examined} of {total} images")


def _print_names(counts: PruneCounts) -> None:
    for name in counts.image_names:
        click.echo(printable(name))
    if others := counts.images - len(counts.image_names):
        print_message(f"and {others} more images")


def _print_counts(counts: PruneCounts, verb: str) -> None:
    print_message(
        f"{verb} {counts.images} images, {counts.scans} scans, {counts.observations} observations "
        f"and {counts.audit_entries} audit entries"
    )
