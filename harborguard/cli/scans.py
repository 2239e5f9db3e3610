"""Command that records scan reports from files."""

import sys
from datetime import UTC, datetime

import click

from harborguard.cli.database import open_database
from harborguard.cli.terminal import describe, org_option, print_message, printable, progress
from harborguard.errors import HarborGuardError
from harborguard.ingest import ingest_report
from harborguard.store import organizations
from harborguard.store.connection import Connection


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@org_option
@click.option("--image", metavar="REF", help="Image reference to use instead of the report's own.")
def ingest(files: tuple[str, ...], organization: str, image: str | None) -> None:
    """Record scan reports: Trivy JSON, Grype JSON or the sensor's envelope.

    FILE may be - for standard input. If a file cannot be recorded, the command continues with the
    others and its exit status is 1.
    """
    failed = 0
    with open_database() as conn:
        organization_id = organizations.get_organization(conn, organization)
        with progress(files) as (names, print_line):
            for name in names:
                try:
                    print_line(f"{printable(name)}: {_record(conn, organization_id, name, image)}")
                except (HarborGuardError, OSError) as error:
                    failed += 1
                    print_line(f"{printable(name)}: not recorded: {_reason(error)}")
    if failed:
        print_message(f"{failed} of {len(files)} files were not recorded")
        sys.exit(1)


def _record(conn: Connection, organization_id: str, name: str, image: str | None) -> str:
    with click.open_file(name, "rb") as file:
        body = file.read()
    now = datetime.now(UTC)
    recorded = ingest_report(conn, organization_id, body, image=image, received_at=now)
    outcome = "recorded as" if recorded.is_new else "already recorded as"
    return f"{outcome} {recorded.scan_id} of image {recorded.image_id}"


def _reason(error: HarborGuardError | OSError) -> str:
    return describe(error) if isinstance(error, HarborGuardError) else str(error.strerror)
