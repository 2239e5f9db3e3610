"""Commands for the database: migrate the schema, check the counters."""

import sys

import click

from harborguard.cli.database import open_database, provide_database
from harborguard.cli.terminal import print_message
from harborguard.config import Config
from harborguard.errors import ConfigurationError
from harborguard.store import counters, migrations, organizations
from harborguard.store.connection import Connection, connect


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
@click.option("--org", "organization", metavar="ORG", help="Default: all organizations.")
@click.option("--repair", is_flag=True, help="Correct the wrong counters.")
def recount(organization: str | None, *, repair: bool) -> None:
    """Count the images and compare the stored counters.

    The exit status is 1 if a counter is wrong and --repair is not given.
    """
    wrong = 0
    with open_database() as conn:
        for organization_id in _select_organizations(conn, organization):
            drift = counters.find_counter_drift(conn, organization_id)
            wrong += len(drift)
            for counter in drift:
                print_message(f"{organization_id}: {_describe(counter)}")
            if drift and repair:
                counters.reset_counters(conn, organization_id)
    print_message(f"{wrong} wrong counters{', repaired' if wrong and repair else ''}")
    if wrong and not repair:
        sys.exit(1)


def _select_organizations(conn: Connection, organization: str | None) -> list[str]:
    if organization is not None:
        return [organizations.get_organization(conn, organization)]
    return [row["id"] for row in organizations.list_organizations(conn)]


def _describe(counter: counters.CounterDrift) -> str:
    score = "never scanned" if counter.risk_score is None else f"score {counter.risk_score}"
    subject = f"{counter.registry_id}, {score}" if counter.registry_id else "all images"
    return f"{subject}: stored {counter.stored}, counted {counter.counted}"
