"""Commands for API keys and personal access tokens."""

from datetime import datetime

import click

from harborguard.auth.credentials import make_secret
from harborguard.cli.actor import command_actor
from harborguard.cli.database import open_database
from harborguard.cli.organizations import ROLES
from harborguard.cli.terminal import (
    EXPIRES_HELP,
    Email,
    Expiry,
    Host,
    Name,
    org_option,
    print_message,
    print_secret,
    print_table,
    printable,
)
from harborguard.model import PrincipalKind, Role
from harborguard.store import organizations, principals
from harborguard.store.registries import ensure_registry


@click.group()
def key() -> None:
    """Manage API keys, which authenticate an organization."""


@key.command("create")
@click.argument("name", type=Name())
@org_option
@click.option("--role", type=ROLES, default="ci", show_default=True, help="Permissions of the key.")
@click.option("--expires", type=Expiry(), help=EXPIRES_HELP)
@click.option("--registry", type=Host(), help="Limit the key to this registry.")
def create_key(
    name: str, *, organization: str, role: str, expires: datetime | None, registry: str | None
) -> None:
    """Create an API key and print its secret, which is shown only once."""
    secret = make_secret(PrincipalKind.API_KEY)
    actor = command_actor()
    with open_database() as conn, conn.transaction():
        organization_id = organizations.get_organization(conn, organization)
        registry_id = None
        if registry is not None:
            registry_id = ensure_registry(conn, organization_id, registry, actor=actor)
        key_id = principals.create_api_key(
            conn,
            organization_id,
            secret,
            actor=actor,
            name=name,
            role=Role(role),
            registry_id=registry_id,
            expires_at=expires,
        )
    print_secret(f"API key {key_id}", secret)


@key.command("list")
@org_option
def list_keys(organization: str) -> None:
    """List an organization's API keys without their secrets, newest first."""
    with open_database() as conn:
        organization_id = organizations.get_organization(conn, organization)
        print_table(principals.list_api_keys(conn, organization_id))


@key.command("revoke")
@click.argument("key_id", metavar="ID")
def revoke_key(key_id: str) -> None:
    """Revoke an API key permanently, from the next request on."""
    with open_database() as conn:
        principals.revoke_api_key(conn, key_id, actor=command_actor())
    print_message(f"revoked API key {printable(key_id)}")


@click.group()
def token() -> None:
    """Manage personal access tokens, which authenticate a user."""


@token.command("create")
@click.argument("name", type=Name())
@click.option("--user", "email", required=True, type=Email())
@click.option("--expires", type=Expiry(), help=EXPIRES_HELP)
def create_token(name: str, email: str, expires: datetime | None) -> None:
    """Create a personal access token and print its secret, which is shown only once."""
    secret = make_secret(PrincipalKind.ACCESS_TOKEN)
    with open_database() as conn:
        token_id = principals.create_access_token(
            conn, secret, actor=command_actor(), name=name, email=email, expires_at=expires
        )
    print_secret(f"access token {token_id}", secret)


@token.command("list")
@click.option("--user", "email", required=True, type=Email())
def list_tokens(email: str) -> None:
    """List a user's personal access tokens without their secrets, newest first."""
    with open_database() as conn:
        print_table(principals.list_access_tokens(conn, email))


@token.command("revoke")
@click.argument("token_id", metavar="ID")
def revoke_token(token_id: str) -> None:
    """Revoke a personal access token permanently, from the next request on."""
    with open_database() as conn:
        principals.revoke_access_token(conn, token_id, actor=command_actor())
    print_message(f"revoked access token {printable(token_id)}")
