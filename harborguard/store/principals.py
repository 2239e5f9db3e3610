"""Principals: look up credentials, record their use, and manage API keys and access tokens."""

from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import dict_row

from harborguard.auth.credentials import Credential, NewSecret
from harborguard.errors import NotFound
from harborguard.model import Action, Actor, Principal, PrincipalKind, Role, Scope
from harborguard.store.audit import record_action
from harborguard.store.connection import Connection
from harborguard.store.statements import STATEMENTS

_FIND: dict[PrincipalKind, LiteralString] = {
    PrincipalKind.API_KEY: STATEMENTS["find_principal_by_api_key"],
    PrincipalKind.ACCESS_TOKEN: STATEMENTS["find_principal_by_access_token"],
    PrincipalKind.SESSION: STATEMENTS["find_principal_by_session"],
}
_RECORD_USE: dict[PrincipalKind, LiteralString] = {
    PrincipalKind.API_KEY: STATEMENTS["record_api_key_use"],
    PrincipalKind.ACCESS_TOKEN: STATEMENTS["record_access_token_use"],
}
_ROLES = {role.value: role for role in Role}


def find_principal(conn: Connection, credential: Credential) -> Principal | None:
    """Return the principal of a credential, or None if it is not valid now.

    Expiry is checked by the database's clock.
    """
    rows = conn.fetch(_FIND[credential.kind], _find_parameters(credential))
    if not rows:
        return None
    [(principal_id, organization_id, registry_id, role, has_stale_last_use)] = rows
    return Principal(
        kind=credential.kind,
        id=principal_id,
        scope=Scope(organization_id, registry_id),
        # A newer schema may have roles that this release does not know; they permit nothing.
        role=_ROLES.get(role),
        has_stale_last_use=has_stale_last_use,
    )


def record_use(conn: Connection, principal: Principal) -> None:
    """Record that a key or token was used now.

    Do nothing if another transaction has locked the row, so that the request does not wait for it.
    """
    conn.execute(_RECORD_USE[principal.kind], {"id": principal.id})


def _find_parameters(credential: Credential) -> dict[str, Any]:
    if credential.identity is not None:
        identity = credential.identity
        return {"email": identity.email, "user_id": identity.user_id}
    return {"sha256": credential.digest}


def create_api_key(
    conn: Connection,
    organization_id: str,
    secret: NewSecret,
    *,
    actor: Actor,
    name: str,
    role: Role,
    registry_id: str | None = None,
    expires_at: datetime | None = None,
) -> str:
    """Store a new key's digest and prefix, never its secret, and return its id."""
    parameters = {
        "organization_id": organization_id,
        "name": name,
        "prefix": secret.prefix,
        "sha256": secret.digest,
        "role": role.value,
        "registry_id": registry_id,
        "expires_at": expires_at,
    }
    with conn.transaction():
        [(key_id,)] = conn.execute(STATEMENTS["create_api_key"], parameters).fetchall()
        record_action(conn, organization_id, actor, Action.API_KEY_CREATED, f"apikey/{key_id}")
    return key_id


def create_access_token(
    conn: Connection,
    secret: NewSecret,
    *,
    actor: Actor,
    name: str,
    email: str,
    expires_at: datetime | None,
) -> str:
    """Store a user's new token and return its id; raise NotFound if the user does not exist."""
    parameters = {
        "name": name,
        "email": email,
        "prefix": secret.prefix,
        "sha256": secret.digest,
        "expires_at": expires_at,
    }
    with conn.transaction():
        organization_id, token_id = _returned_row(
            conn, STATEMENTS["create_access_token"], parameters, f"user {email}"
        )
        record_action(conn, organization_id, actor, Action.TOKEN_CREATED, f"token/{token_id}")
    return token_id


def list_api_keys(conn: Connection, organization_id: str) -> list[dict[str, Any]]:
    """Return an organization's keys without secrets and digests, newest first."""
    cursor = conn.cursor(row_factory=dict_row)
    parameters = {"organization_id": organization_id}
    return cursor.execute(STATEMENTS["list_api_keys"], parameters).fetchall()


def list_access_tokens(conn: Connection, email: str) -> list[dict[str, Any]]:
    """Return a user's tokens, newest first; raise NotFound if the user does not exist."""
    cursor = conn.cursor(row_factory=dict_row)
    rows = cursor.execute(STATEMENTS["list_access_tokens"], {"email": email}).fetchall()
    if not rows:
        raise NotFound(f"The user {email} does not exist.")
    return [row for row in rows if row["id"] is not None]


def revoke_api_key(conn: Connection, key_id: str, *, actor: Actor) -> None:
    """Revoke a key permanently from the next request on; raise NotFound if it does not exist."""
    parameters = {"id": key_id}
    with conn.transaction():
        organization_id, is_changed = _returned_row(
            conn, STATEMENTS["revoke_api_key"], parameters, f"API key {key_id}"
        )
        if is_changed:
            record_action(conn, organization_id, actor, Action.API_KEY_REVOKED, f"apikey/{key_id}")


def revoke_access_token(conn: Connection, token_id: str, *, actor: Actor) -> None:
    """Revoke a token permanently from the next request on; raise NotFound if it does not exist."""
    parameters = {"id": token_id}
    with conn.transaction():
        organization_id, is_changed = _returned_row(
            conn, STATEMENTS["revoke_access_token"], parameters, f"access token {token_id}"
        )
        if is_changed:
            record_action(conn, organization_id, actor, Action.TOKEN_REVOKED, f"token/{token_id}")


def _returned_row(
    conn: Connection, statement: LiteralString, parameters: dict[str, Any], subject: str
) -> tuple[Any, ...]:
    """Return the row of a statement; raise NotFound for `subject` if there is no row."""
    row = conn.execute(statement, parameters).fetchone()
    if row is None:
        raise NotFound(f"The {subject} does not exist.")
    return row
