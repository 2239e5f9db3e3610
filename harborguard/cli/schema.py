"""Commands for the database: migrate the schema, check the counters."""

import sys
from functools import partial

import click

from harborguard.cli.database import open_database, provide_database
from harborguard.cli.terminal import ALL_ORGANIZATIONS_HELP, print_message
from harborguard.config import Config
from harborguard.errors import ConfigurationError
from harborguard.store import counters, migrations, organizations
from harborguard.store.connection import Connection, connect
from harborguard.store.errors import retry_once


@click.command()
def migrate() -> None:
    """Apply the pending migrations of this release; safe to repeat."""
    if Config.from_env().pooler:
        raise ConfigurationError(
            "Migrations hold a session lock, which does not work through a pooler. "
            "Set DATABASE_URL to the PostgreSQL server and HARBORGUARD_POOLER=off."
        )
    with provide_database() as config, connect(config) as conn:
        applied = migrations.migrate(conn)
    for name in applied:
        print_message(f"applied {name}")
    print_message(f"applied {len(applied)} migrations" if applied else "the schema is up to date")


@click.command()
@click.option("--org", "organization", metavar="ORG", help=ALL_ORGANIZATIONS_HELP)
@click.option("--repair", is_flag=True, help="Repair the incorrect counters.")
def recount(organization: str | None, *, repair: bool) -> None:
    """Count the images and compare the stored counters.

    The exit status is 1 if a counter is incorrect and --repair is not given.
    """
    total = 0
    with open_database() as conn:
        for organization_id in _select_organizations(conn, organization):
            incorrect = counters.find_incorrect_counters(conn, organization_id)
            total += len(incorrect)
            for counter in incorrect:
                print_message(f"{organization_id}: {_describe(counter)}")
            if incorrect and repair:
                retry_once(partial(counters.repair_counters, conn, organization_id))
    print_message(f"{total} incorrect counters{', repaired' if total and repair else ''}")
    if total and not repair:
        sys.exit(1)


def _select_organizations(conn: Connection, organization: str | None) -> list[str]:
    if organization is not None:
        return [organizations.get_organization(conn, organization)]
    return [row["id"] for row in organizations.list_organizations(conn)]


def _describe(counter: counters.IncorrectCounter) -> str:
    score = "never scanned" if counter.risk_score is None else f"score {counter.risk_score}"
    subject = f"{counter.registry_id}, {score}" if counter.registry_id else "all images"
    return f"{subject}: stored {counter.stored}, counted {counter.counted}"
