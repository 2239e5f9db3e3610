"""Command for images: delete."""

import click

from harborguard.cli.actor import command_actor
from harborguard.cli.database import open_database
from harborguard.cli.terminal import org_option, print_message, printable
from harborguard.model import Scope
from harborguard.store import deletion, organizations
from harborguard.store.errors import retry_once
from harborguard.store.images.rows import get_image_id


@click.group()
def image() -> None:
    """Manage images."""


@image.command("delete")
@click.argument("id_or_name", metavar="IMAGE")
@org_option
def delete_image(id_or_name: str, organization: str) -> None:
    """Delete an image with its tags, scans and findings.

    IMAGE is an id or a name like ghcr.io/acme/api. A later report or sync adds the image again.
    """
    actor = command_actor()
    with open_database() as conn:
        organization_id = organizations.get_organization(conn, organization)
        image_id = get_image_id(conn, organization_id, id_or_name)
        scope = Scope(organization_id)
        retry_once(lambda: deletion.delete_image(conn, scope, image_id, actor=actor))
    print_message(f"deleted image {printable(id_or_name)}")
