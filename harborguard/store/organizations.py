"""Organizations and their users."""

from typing import Any

from psycopg.rows import dict_row

from harborguard.errors import Conflict, NotFound
from harborguard.model import Role, UserStatus
from harborguard.store.connection import Connection
from harborguard.store.statements import STATEMENTS


def create_organization(conn: Connection, name: str) -> str:
    """Create an organization and return its id; raise Conflict if the name is taken."""
    row = conn.execute(STATEMENTS["create_organization"], {"name": name}).fetchone()
    if row is None:
        raise Conflict(f"The organization {name!r} already exists.")
    return row[0]


def find_organization(conn: Connection, id_or_name: str) -> str | None:
    """Return the id of the organization with this id, else with this name, else None."""
    row = conn.execute(STATEMENTS["find_organization"], {"id_or_name": id_or_name}).fetchone()
    return row[0] if row else None


def get_organization(conn: Connection, id_or_name: str) -> str:
    """Return the id of an organization by id or name; raise NotFound if it does not exist."""
    organization_id = find_organization(conn, id_or_name)
    if organization_id is None:
        raise NotFound(f"The organization {id_or_name!r} does not exist.")
    return organization_id


def list_organizations(conn: Connection) -> list[dict[str, Any]]:
    """Return the id and name of every organization, ordered by name."""
    cursor = conn.cursor(row_factory=dict_row)
    return cursor.execute(STATEMENTS["list_organizations"]).fetchall()


def add_user(conn: Connection, organization_id: str, email: str, role: Role) -> str:
    """Create an active user and return its id; raise Conflict if the address is taken.

    `email` must be lower-case, as in all functions of this module (contract 4).
    """
    parameters = {"organization_id": organization_id, "email": email, "role": role.value}
    row = conn.execute(STATEMENTS["add_user"], parameters).fetchone()
    if row is None:
        raise Conflict(f"The user {email} already exists.")
    return row[0]


def set_user(
    conn: Connection, email: str, *, role: Role | None = None, status: UserStatus | None = None
) -> tuple[Role, UserStatus]:
    """Change a user's role, status or both, and return the resulting role and status.

    The change applies to the user's next request. Raise NotFound if the user does not exist.
    """
    parameters = {
        "email": email,
        "role": role and role.value,
        "status": status and status.value,
    }
    row = conn.execute(STATEMENTS["set_user"], parameters).fetchone()
    if row is None:
        raise NotFound(f"The user {email} does not exist.")
    return Role(row[1]), UserStatus(row[2])


def list_users(conn: Connection, organization_id: str | None = None) -> list[dict[str, Any]]:
    """Return the users of an organization, else of all, ordered by e-mail address.

    Each row has id, email, role, status and the organization's name.
    """
    cursor = conn.cursor(row_factory=dict_row)
    parameters = {"organization_id": organization_id}
    return cursor.execute(STATEMENTS["list_users"], parameters).fetchall()
