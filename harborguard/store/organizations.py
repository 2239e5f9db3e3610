"""Organizations and their users."""

from harborguard.errors import Conflict, NotFound
from harborguard.model import Role, UserStatus
from harborguard.store.connection import Connection
from harborguard.store.statements import STATEMENTS


def create_organization(conn: Connection, name: str) -> str:
    """Makes an organization and answers with its id; raises Conflict where the name is taken."""
    row = conn.execute(STATEMENTS["create_organization"], {"name": name}).fetchone()
    if row is None:
        raise Conflict(f"there is an organization {name!r} already")
    return row[0]


def find_organization(conn: Connection, id_or_name: str) -> str | None:
    """The id of the organization that a person means by an id or a name."""
    row = conn.execute(STATEMENTS["find_organization"], {"id_or_name": id_or_name}).fetchone()
    return row[0] if row else None


def get_organization(conn: Connection, id_or_name: str) -> str:
    """As `find_organization`; raises NotFound where there is none."""
    organization_id = find_organization(conn, id_or_name)
    if organization_id is None:
        raise NotFound(f"there is no organization {id_or_name!r}")
    return organization_id


def list_organizations(conn: Connection) -> list[tuple[str, str]]:
    """Ids and names of all organizations, by name."""
    return [(row[0], row[1]) for row in conn.execute(STATEMENTS["list_organizations"])]


def add_user(conn: Connection, organization_id: str, email: str, role: Role) -> str:
    """Makes an active user and answers with its id; raises Conflict where the address is taken.

    `email` is lower-case, here and below (contract, section 4).
    """
    parameters = {
        "organization_id": organization_id,
        "email": email,
        "role": role.value,
    }
    row = conn.execute(STATEMENTS["add_user"], parameters).fetchone()
    if row is None:
        raise Conflict(f"there is a user {email} already")
    return row[0]


def set_user(
    conn: Connection, email: str, *, role: Role | None = None, status: UserStatus | None = None
) -> tuple[Role, UserStatus]:
    """Changes a user from the next request on; answers with what holds; NotFound for nobody."""
    parameters = {
        "email": email,
        "role": role and role.value,
        "status": status and status.value,
    }
    row = conn.execute(STATEMENTS["set_user"], parameters).fetchone()
    if row is None:
        raise NotFound(f"there is no user {email}")
    return Role(row[1]), UserStatus(row[2])
