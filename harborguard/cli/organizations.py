"""Commands for organizations and their users."""

import click

from harborguard.cli.actor import command_actor
from harborguard.cli.database import open_database
from harborguard.cli.terminal import (
    ALL_ORGANIZATIONS_HELP,
    Email,
    Name,
    count,
    org_option,
    print_message,
    print_table,
    printable,
    require_terminal,
    show_progress,
)
from harborguard.model import Role, UserStatus
from harborguard.store import deletion, organizations
from harborguard.store.errors import retry_once

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
    """List all organizations by name, also those that are being deleted."""
    with open_database() as conn:
        print_table(organizations.list_organizations(conn))


@org.command("delete")
@click.argument("organization", metavar="ORG")
@click.option("--confirm", "confirmation", metavar="NAME", help="The name again; do not ask.")
def delete_org(organization: str, confirmation: str | None) -> None:
    """Delete an organization with everything that it has. Nothing of it remains.

    Its users and credentials are deleted first, so requests with them fail at once. If the command
    is interrupted, run it again: it continues.
    """
    with open_database() as conn:
        found = organizations.get_organization_state(conn, organization)
        name, counts = printable(found.name), deletion.count_organization(conn, found.id)
        print_message(
            f"organization {name} ({found.id}) has {count(counts.images, 'image')}, "
            f"{count(counts.users, 'user')} and {count(counts.keys, 'API key')}; "
            "all of this is deleted"
        )
        if confirmation is None:
            require_terminal("--confirm NAME")
            confirmation = click.prompt("Type the name of the organization to delete it", err=True)
        if confirmation != found.name:
            raise click.UsageError("the confirmation is not the organization's name")
        retry_once(lambda: deletion.begin_organization_deletion(conn, found.id))
        batches = deletion.delete_organization(conn, found.id)
        deleted = show_progress(batches, counts.images, label="deleting", noun="images")
    print_message(f"deleted organization {name}: {count(deleted, 'image')}")


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


@user.command("remove")
@click.argument("email", type=Email())
def remove_user(email: str) -> None:
    """Delete a user and the user's access tokens, from the next request on."""
    actor = command_actor()
    with open_database() as conn:
        retry_once(lambda: organizations.remove_user(conn, email, actor=actor))
    print_message(f"removed user {printable(email)}")
