"""The database: its schema, and the connection that the other commands work on."""

import sys

import click

from harborguard.cli.database import open_database
from harborguard.cli.terminal import say
from harborguard.config import Config
from harborguard.dev.local import database
from harborguard.errors import ConfigurationError
from harborguard.store import counters, migrations, organizations
from harborguard.store.connection import Connection, connect


@click.command()
def migrate() -> None:
    """Bring the database's schema up to this release; harmless to repeat."""
    settings = Config.from_env()
    if settings.pooler:
        raise ConfigurationError(
            "Migrations hold a lock on their connection, which a pooler would share: "
            "set DATABASE_URL to the server itself and HARBORGUARD_POOLER to off"
        )
    with database(settings) as config, connect(config) as conn:
        applied = migrations.migrate(conn)
    for name in applied:
        say(f"applied {name}")
    say("the schema is up to date" if not applied else f"{len(applied)} applied")


@click.command()
@click.option("--org", "organization", metavar="ORG", help="Without it, every organization.")
@click.option("--repair", is_flag=True, help="Set what is wrong to what was counted.")
def recount(organization: str | None, *, repair: bool) -> None:
    """Count an organization's images anew and compare with the counters kept beside them.

    The exit status is 1 if any counter was wrong and is not repaired.
    """
    wrong = 0
    with open_database() as conn:
        for organization_id in _chosen(conn, organization):
            drift = counters.find_counter_drift(conn, organization_id)
            wrong += len(drift)
            for counter in drift:
                say(f"{organization_id}: {_describe(counter)}")
            if drift and repair:
                counters.reset_counters(conn, organization_id)
    say(f"{wrong} counters were wrong{' and are repaired' if wrong and repair else ''}")
    if wrong and not repair:
        sys.exit(1)


def _chosen(conn: Connection, organization: str | None) -> list[str]:
    if organization is not None:
        return [organizations.get_organization(conn, organization)]
    return [organization_id for organization_id, _ in organizations.list_organizations(conn)]


def _describe(counter: counters.CounterDrift) -> str:
    score = "never scanned" if counter.risk_score is None else f"score {counter.risk_score}"
    what = f"{counter.registry_id}, {score}" if counter.registry_id else "all images"
    return f"{what}: stored {counter.stored}, counted {counter.counted}"
