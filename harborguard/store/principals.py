"""Who is asking: credentials looked up, their use noted; keys and tokens made and revoked."""

from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import dict_row

from harborguard.auth.credentials import Credential, NewSecret
from harborguard.errors import NotFound
from harborguard.model import Principal, PrincipalKind, Role, Scope
from harborguard.store.connection import Connection
from harborguard.store.statements import STATEMENTS

_FIND: dict[PrincipalKind, LiteralString] = {
    PrincipalKind.API_KEY: STATEMENTS["find_principal_by_api_key"],
    PrincipalKind.ACCESS_TOKEN: STATEMENTS["find_principal_by_access_token"],
    PrincipalKind.SESSION: STATEMENTS["find_principal_by_session"],
}
_NOTE_USE: dict[PrincipalKind, LiteralString] = {
    PrincipalKind.API_KEY: STATEMENTS["record_api_key_use"],
    PrincipalKind.ACCESS_TOKEN: STATEMENTS["record_access_token_use"],
}
_ROLES = {role.value: role for role in Role}


def find_principal(conn: Connection, credential: Credential) -> Principal | None:
    """Whom a credential stands for at this moment, by the database's clock; None for nobody."""
    rows = conn.fetch(_FIND[credential.kind], _lookup(credential))
    if not rows:
        return None
    [(principal_id, organization_id, registry_id, role, is_use_due)] = rows
    return Principal(
        kind=credential.kind,
        id=principal_id,
        scope=Scope(organization_id, registry_id),
        # A newer schema may know roles that this release does not: they may nothing here.
        role=_ROLES.get(role),
        is_use_due=is_use_due,
    )


def record_use(conn: Connection, principal: Principal) -> None:
    """Notes that a key or a token was used; waits for nobody who is noting the same."""
    conn.execute(_NOTE_USE[principal.kind], {"id": principal.id})


def _lookup(credential: Credential) -> dict[str, Any]:
    if credential.identity is not None:
        identity = credential.identity
        return {"email": identity.email, "user_id": identity.user_id}
    return {"sha256": credential.digest}


def create_api_key(
    conn: Connection,
    organization_id: str,
    secret: NewSecret,
    *,
    name: str,
    role: Role,
    registry_id: str | None = None,
    expires_at: datetime | None = None,
) -> str:
    """Keeps a new key's digest and prefix; answers with its id."""
    parameters = {
        "organization_id": organization_id,
        "name": name,
        "prefix": secret.prefix,
        "sha256": secret.digest,
        "role": role.value,
        "registry_id": registry_id,
        "expires_at": expires_at,
    }
    return _made(conn, STATEMENTS["create_api_key"], parameters, "organization")


def create_access_token(
    conn: Connection, secret: NewSecret, *, name: str, email: str, expires_at: datetime | None
) -> str:
    """Keeps a new token of a user; answers with its id; raises NotFound for no such user."""
    parameters = {
        "name": name,
        "email": email,
        "prefix": secret.prefix,
        "sha256": secret.digest,
        "expires_at": expires_at,
    }
    return _made(conn, STATEMENTS["create_access_token"], parameters, f"user {email}")


def list_api_keys(conn: Connection, organization_id: str) -> list[dict[str, Any]]:
    """An organization's keys with everything but what would open a door, newest first."""
    cursor = conn.cursor(row_factory=dict_row)
    parameters = {"organization_id": organization_id}
    return cursor.execute(STATEMENTS["list_api_keys"], parameters).fetchall()


def list_access_tokens(conn: Connection, email: str) -> list[dict[str, Any]]:
    """A user's tokens, likewise; raises NotFound for no such user."""
    cursor = conn.cursor(row_factory=dict_row)
    rows = cursor.execute(STATEMENTS["list_access_tokens"], {"email": email}).fetchall()
    if not rows:
        raise NotFound(f"there is no user {email}")
    return [row for row in rows if row["id"] is not None]


def revoke_api_key(conn: Connection, key_id: str) -> None:
    """Ends a key at once and for good; raises NotFound for no such key."""
    _made(conn, STATEMENTS["revoke_api_key"], {"id": key_id}, f"API key {key_id}")


def revoke_access_token(conn: Connection, token_id: str) -> None:
    """Ends a token at once and for good; raises NotFound for no such token."""
    _made(conn, STATEMENTS["revoke_access_token"], {"id": token_id}, f"access token {token_id}")


def _made(
    conn: Connection, statement: LiteralString, parameters: dict[str, Any], missing: str
) -> str:
    row = conn.execute(statement, parameters).fetchone()
    if row is None:
        raise NotFound(f"there is no {missing}")
    return row[0]
