"""A database for trying the service out: the one that is set, else a private one of our own."""

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
from harborguard.model import PrincipalKind, Role
from harborguard.store.connection import Connection, connect
from harborguard.store.migrations import migrate
from harborguard.store.organizations import create_organization, find_organization
from harborguard.store.principals import create_api_key, find_principal

DEMO_ORGANIZATION = "demo"


@contextmanager
def database(config: Config) -> Iterator[Config]:
    """The configuration with a database to use: one is started where none is set or running.

    Raises EmbeddedServerError where none is set and none can be started.
    """
    if config.database_url:
        yield config
    else:
        with running_server(config.state_directory, sudo_uid=config.sudo_uid) as server:
            yield replace(config, database_url=server.url)


def prepare_demo(config: Config) -> str:
    """Migrates, fills an organization with demo data at the first start, and answers with a key.

    The key is kept in the state directory, for its owner's eyes; a second start finds it there.
    """
    with connect(config) as conn:
        migrate(conn)
        key_file = config.state_directory / "demo.key"
        with conn.transaction():
            organization_id = find_organization(conn, DEMO_ORGANIZATION)
            if organization_id is None:
                organization_id = _fill(conn)
            return _kept_key(conn, key_file) or _new_key(conn, organization_id, key_file)


def _fill(conn: Connection) -> str:
    organization_id = create_organization(conn, DEMO_ORGANIZATION)
    now = datetime.now(UTC)
    for report in demo.make_reports(now):
        ingest_report(conn, organization_id, report, received_at=now)
    return organization_id


def _kept_key(conn: Connection, key_file: Path) -> str | None:
    if key_file.is_symlink() or not key_file.exists():
        return None
    secret = key_file.read_text(encoding="utf-8").strip()
    try:
        credential = parse_credential({"X-API-Key": secret}, (), None)
    except Unauthenticated:
        return None
    return secret if find_principal(conn, credential) else None


def _new_key(conn: Connection, organization_id: str, key_file: Path) -> str:
    secret = make_secret(PrincipalKind.API_KEY)
    create_api_key(conn, organization_id, secret, name="demo", role=Role.ADMIN)
    # Where root cannot use the state directory, the database lies elsewhere.
    key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The directory may be another account's: nothing that it planted there is written through.
    key_file.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(key_file, flags, 0o600), "w", encoding="ascii") as file:
        file.write(f"{secret.secret}\n")
    return secret.secret
