"""Organizations and their users."""

import click

from harborguard.cli.database import open_database
from harborguard.cli.terminal import Email, Name, printable, say
from harborguard.model import Role, UserStatus
from harborguard.store import organizations

ROLES = click.Choice([role.value for role in Role])
STATUSES = click.Choice([status.value for status in UserStatus])


@click.group()
def org() -> None:
    """Organizations: the tenants."""


@org.command("create")
@click.argument("name", type=Name())
def create_org(name: str) -> None:
    """Make an organization."""
    with open_database() as conn:
        organization_id = organizations.create_organization(conn, name)
    say(f"organization {printable(name)} is {organization_id}")


@click.group()
def user() -> None:
    """People, who come in with a personal access token or a session."""


@user.command("add")
@click.argument("email", type=Email())
@click.option("--org", "organization", required=True, metavar="ORG")
@click.option("--role", type=ROLES, required=True)
def add_user(email: str, organization: str, role: str) -> None:
    """Add a user to an organization, active at once."""
    with open_database() as conn:
        organization_id = organizations.get_organization(conn, organization)
        user_id = organizations.add_user(conn, organization_id, email, Role(role))
    say(f"user {printable(email)} is {user_id}")


@user.command("set")
@click.argument("email", type=Email())
@click.option("--role", type=ROLES)
@click.option("--status", type=STATUSES)
def set_user(email: str, role: str | None, status: str | None) -> None:
    """Change a user's role or status; holds from the next request on."""
    if role is None and status is None:
        raise click.UsageError("nothing to change: give --role, --status or both")
    with open_database() as conn:
        held = organizations.set_user(
            conn,
            email,
            role=None if role is None else Role(role),
            status=None if status is None else UserStatus(status),
        )
    say(f"user {printable(email)} is {held[1].value}, {held[0].value}")
