"""Organizations and their users."""

import shlex
from typing import Any, NamedTuple

from psycopg.rows import dict_row

from harborguard.errors import Conflict, NotFound
from harborguard.model import Action, Actor, Role, UserStatus
from harborguard.store.audit import record_action
from harborguard.store.connection import Connection
from harborguard.store.statements import STATEMENTS

_STATUS_ACTIONS = {
    UserStatus.INVITED: Action.MEMBER_INVITED,
    UserStatus.ACTIVE: Action.MEMBER_ACTIVATED,
    UserStatus.SUSPENDED: Action.MEMBER_SUSPENDED,
}


def create_organization(conn: Connection, name: str, *, actor: Actor) -> str:
    """Create an organization and return its id; raise Conflict if the name is taken."""
    with conn.transaction():
        row = conn.execute(STATEMENTS["create_organization"], {"name": name}).fetchone()
        if row is None:
            found = find_organization_state(conn, name)
            if found is not None and found.is_being_deleted:
                raise Conflict(_being_deleted(name))
            raise Conflict(f"The organization {name!r} already exists.")
        [organization_id] = row
        target = f"organization/{organization_id}"
        record_action(conn, organization_id, actor, Action.ORGANIZATION_CREATED, target)
    return organization_id


class OrganizationState(NamedTuple):
    """An organization's id and name, and whether it is being deleted."""

    id: str
    name: str
    is_being_deleted: bool


def find_organization_state(conn: Connection, id_or_name: str) -> OrganizationState | None:
    """Return the organization with this id, else with this name, else None."""
    row = conn.execute(STATEMENTS["find_organization"], {"id_or_name": id_or_name}).fetchone()
    return OrganizationState(*row) if row else None


def get_organization_state(conn: Connection, id_or_name: str) -> OrganizationState:
    """Return an organization by id or name, also one that is being deleted; or raise NotFound."""
    found = find_organization_state(conn, id_or_name)
    if found is None:
        raise NotFound(f"The organization {id_or_name!r} does not exist.")
    return found


def get_organization(conn: Connection, id_or_name: str) -> str:
    """Return the id of an organization by id or name.

    Raise NotFound if it does not exist, and Conflict if it is being deleted.
    """
    found = get_organization_state(conn, id_or_name)
    if found.is_being_deleted:
        raise Conflict(_being_deleted(id_or_name))
    return found.id


def _being_deleted(id_or_name: str) -> str:
    return (
        f"The organization {id_or_name!r} is being deleted. "
        f"Complete the deletion with: harborguard org delete {shlex.quote(id_or_name)}"
    )


def list_organizations(conn: Connection) -> list[dict[str, Any]]:
    """Return id, name and deleting_since of every organization, ordered by name.

    `deleting_since` is the time when its deletion began, or else None.
    """
    cursor = conn.cursor(row_factory=dict_row)
    return cursor.execute(STATEMENTS["list_organizations"]).fetchall()


def add_user(
    conn: Connection, organization_id: str, email: str, role: Role, *, actor: Actor
) -> str:
    """Create an active user and return its id; raise Conflict if the address is taken.

    `email` must be lower-case, as in all functions of this module (contract 4).
    """
    parameters = {"organization_id": organization_id, "email": email, "role": role.value}
    with conn.transaction():
        row = conn.execute(STATEMENTS["add_user"], parameters).fetchone()
        if row is None:
            raise Conflict(f"The user {email} already exists.")
        [user_id] = row
        record_action(conn, organization_id, actor, Action.MEMBER_ADDED, f"user/{user_id}")
    return user_id


def set_user(
    conn: Connection,
    email: str,
    *,
    actor: Actor,
    role: Role | None = None,
    status: UserStatus | None = None,
) -> tuple[Role, UserStatus]:
    """Change a user's role, status or both, and return the resulting role and status.

    The change applies to the user's next request. The audit log has an entry for each of the two
    that differs from before. Raise NotFound if the user does not exist.
    """
    parameters = {
        "email": email,
        "role": role and role.value,
        "status": status and status.value,
    }
    with conn.transaction():
        row = conn.execute(STATEMENTS["set_user"], parameters).fetchone()
        if row is None:
            raise NotFound(f"The user {email} does not exist.")
        organization_id, user_id, role_before, status_before, role_after, status_after = row
        target = f"user/{user_id}"
        if role_before != role_after:
            record_action(conn, organization_id, actor, Action.MEMBER_ROLE_CHANGED, target)
        if status_before != status_after:
            action = _STATUS_ACTIONS[UserStatus(status_after)]
            record_action(conn, organization_id, actor, action, target)
    return Role(role_after), UserStatus(status_after)


def remove_user(conn: Connection, email: str, *, actor: Actor) -> None:
    """Delete a user with all access tokens; raise NotFound if the user does not exist.

    The tokens and the user's sessions fail from the next request on.
    """
    with conn.transaction():
        row = conn.execute(STATEMENTS["delete_user"], {"email": email}).fetchone()
        if row is None:
            raise NotFound(f"The user {email} does not exist.")
        organization_id, user_id = row
        record_action(conn, organization_id, actor, Action.MEMBER_REMOVED, f"user/{user_id}")


def list_users(conn: Connection, organization_id: str | None = None) -> list[dict[str, Any]]:
    """Return the users of an organization, else of all, ordered by e-mail address.

    Each row has id, email, role, status and the organization's name.
    """
    cursor = conn.cursor(row_factory=dict_row)
    parameters = {"organization_id": organization_id}
    return cursor.execute(STATEMENTS["list_users"], parameters).fetchall()
