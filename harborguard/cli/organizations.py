"""Commands for organizations and their users."""

import click

from harborguard.cli.actor import command_actor
from harborguard.cli.database import open_database
from harborguard.cli.terminal import (
    ALL_ORGANIZATIONS_HELP,
    Email,
    Name,
    org_option,
    print_message,
    print_table,
    printable,
)
from harborguard.model import Role, UserStatus
from harborguard.store import organizations

ROLES = click.Choice([role.value for role in Role])
STATUSES = click.Choice([status.value for status in UserStatus])


@click.group()
def org() -> None:
    """Manage organizations."""


@org.command("create")
@click.argument("name", type=Name())
def create_org(name: str) -> None:
    """Create an organization and report its id."""
    with open_database() as conn:
        organization_id = organizations.create_organization(conn, name, actor=command_actor())
    print_message(f"created organization {printable(name)}: {organization_id}")


@org.command("list")
def list_orgs() -> None:
    """List all organizations by name."""
    with open_database() as conn:
        print_table(organizations.list_organizations(conn))


@click.group()
def user() -> None:
    """Manage users, who authenticate with a personal access token or a session."""


@user.command("add")
@click.argument("email", type=Email())
@org_option
@click.option("--role", type=ROLES, required=True, help="Permissions of the user.")
def add_user(email: str, organization: str, role: str) -> None:
    """Create an active user in an organization and report the user's id."""
    with open_database() as conn:
        organization_id = organizations.get_organization(conn, organization)
        user_id = organizations.add_user(
            conn, organization_id, email, Role(role), actor=command_actor()
        )
    print_message(f"created user {printable(email)}: {user_id}")


@user.command("list")
@click.option("--org", "organization", metavar="ORG", help=ALL_ORGANIZATIONS_HELP)
def list_users(organization: str | None) -> None:
    """List users by e-mail address."""
    with open_database() as conn:
        organization_id = organization and organizations.get_organization(conn, organization)
        print_table(organizations.list_users(conn, organization_id))


@user.command("set")
@click.argument("email", type=Email())
@click.option("--role", type=ROLES, help="New permissions of the user.")
@click.option("--status", type=STATUSES, help="New status. Only active users can authenticate.")
def set_user(email: str, role: str | None, status: str | None) -> None:
    """Change a user's role, status or both, from the next request on."""
    if role is None and status is None:
        raise click.UsageError("give --role, --status or both")
    with open_database() as conn:
        new_role, new_status = organizations.set_user(
            conn,
            email,
            actor=command_actor(),
            role=None if role is None else Role(role),
            status=None if status is None else UserStatus(status),
        )
    print_message(f"user {printable(email)}: role {new_role}, status {new_status}")
