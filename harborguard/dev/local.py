"""The embedded database of a checkout, and the demo data in it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from harborguard.auth.credentials import make_secret, parse_credential
from harborguard.config import Config
from harborguard.dev import demo
from harborguard.dev.embedded import running_server
from harborguard.errors import Unauthenticated
from harborguard.ingest import ingest_report
from harborguard.model import Actor, PrincipalKind, Role
from harborguard.store.connection import Connection, connect
from harborguard.store.migrations import migrate
from harborguard.store.organizations import (
    create_organization,
    find_organization_state,
    get_organization,
)
from harborguard.store.principals import create_api_key, find_principal

DEMO_ORGANIZATION = "demo"
_ACTOR = Actor("cli:demo")


@contextmanager
def embedded_database(config: Config) -> Iterator[Config]:
    """Yield the configuration with the embedded database's URL; start its server if none runs.

    Raise EmbeddedServerError if the server cannot run.
    """
    with running_server(config.state_directory, sudo_uid=config.sudo_uid) as server:
        yield replace(config, database_url=server.url)


def prepare_demo(config: Config) -> str:
    """Migrate the database, create the demo organization if it is missing, and return a key.

    The key is stored in `demo.key` of the state directory, readable only by its owner, and reused
    as long as it is valid.
    """
    with connect(config) as conn:
        migrate(conn)
        key_file = config.state_directory / "demo.key"
        with conn.transaction():
            if find_organization_state(conn, DEMO_ORGANIZATION) is None:
                organization_id = _create_demo_organization(conn)
            else:
                organization_id = get_organization(conn, DEMO_ORGANIZATION)
            return _read_key(conn, key_file) or _create_key(conn, organization_id, key_file)


def _create_demo_organization(conn: Connection) -> str:
    organization_id = create_organization(conn, DEMO_ORGANIZATION, actor=_ACTOR)
    now = datetime.now(UTC)
    for report in demo.make_reports(now):
        ingest_report(conn, organization_id, report, received_at=now)
    return organization_id


def _read_key(conn: Connection, key_file: Path) -> str | None:
    """Return the stored key if it is still valid."""
    if key_file.is_symlink() or not key_file.exists():
        return None
    secret = key_file.read_text(encoding="utf-8").strip()
    try:
        credential = parse_credential({"X-API-Key": secret}, (), None)
    except Unauthenticated:
        return None
    return secret if find_principal(conn, credential) else None


def _create_key(conn: Connection, organization_id: str, key_file: Path) -> str:
    secret = make_secret(PrincipalKind.API_KEY)
    create_api_key(conn, organization_id, secret, actor=_ACTOR, name="demo", role=Role.ADMIN)
    # The embedded database may be in another directory, so this one may not exist yet.
    key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The directory may belong to another account, which could create a symbolic link here.
    key_file.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(key_file, flags, 0o600), "w", encoding="ascii") as file:
        file.write(f"{secret.secret}\n")
    return secret.secret
