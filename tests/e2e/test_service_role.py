"""The service with a separate role: the API works, and the audit log is append-only."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from flask.testing import FlaskClient

from app import create_app
from harborguard.config import Config
from harborguard.model import Role
from harborguard.store.connection import Connection, connect
from harborguard.store.migrations import Migration, migrate, read_migrations
from tests.support import reports
from tests.support.fault_injection import Cluster, cluster
from tests.support.postgres import program
from tests.support.recording import DAY
from tests.support.reports import SCANNED_AT
from tests.support.service import ROOT, serving
from tests.support.tenants import Tenants

ROLE = "harborguard_service"
SCRIPT = ROOT / "sql/service_role.sql"
# The privileges of the role on rows, by table: r(ead), a(ppend), w(rite), d(elete).
PRIVILEGES = {
    "api_keys": "r",
    "audit_log": "ar",
    "current_scans": "r",
    "current_tags": "r",
    "finding_sets": "arwd",
    "image_names": "arwd",
    "findings": "arwd",
    "image_changes": "arwd",
    "image_counts": "arw",
    "images": "arwd",
    "inventories": "arw",
    "organizations": "r",
    "personal_access_tokens": "r",
    "registries": "arw",
    "scan_findings": "arwd",
    "scans": "arwd",
    "schema_migrations": "r",
    "tags": "arwd",
    "users": "r",
}


def grant(server: Cluster) -> None:
    """Run the file as docs/operations.md does."""
    command = [program("psql"), "-v", "ON_ERROR_STOP=1", "-v", f"role={ROLE}", "harborguard"]
    environment = {
        "PATH": f"{Path(program('psql')).parent}:{os.environ['PATH']}",
        "PGHOST": server.socket_directory,
        "PGUSER": "postgres",
    }
    with SCRIPT.open() as file:
        subprocess.run(command, stdin=file, env=environment, check=True, capture_output=True)


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """Run a server with this release's schema and the role."""
    with cluster() as server:
        with connect(Config(database_url=server.url)) as conn:
            migrate(conn)
        server.execute(f"CREATE ROLE {ROLE} LOGIN")
        grant(server)
        yield server


@pytest.fixture(scope="module")
def owner(server: Cluster) -> Iterator[Connection]:
    """Yield a connection of the owner."""
    with connect(Config(database_url=server.url)) as conn:
        yield conn


@pytest.fixture(scope="module")
def tenants(owner: Connection) -> Tenants:
    """Return the tenants, which the owner created."""
    return Tenants(owner)


@pytest.fixture(scope="module")
def service_config(server: Cluster) -> Config:
    """Return the settings of the service."""
    url = server.url.replace("//harborguard@", f"//{ROLE}@")
    assert ROLE in url
    return Config(database_url=url)


@pytest.fixture
def service(service_config: Config) -> Iterator[Connection]:
    """Yield a connection of the service's role."""
    with connect(service_config) as conn:
        yield conn


@pytest.fixture
def client(service_config: Config) -> Iterator[FlaskClient]:
    """Yield a client of a service with the role."""
    app = create_app(replace(service_config, threads=4))
    with app.extensions["harborguard"].pool:
        yield app.test_client(use_cookies=False)


def test_routes_work_and_the_last_use_is_recorded(
    client: FlaskClient, tenants: Tenants, owner: Connection
) -> None:
    acme = tenants.acme
    key = {"X-API-Key": acme.add_key(Role.OWNER)}
    token = {"X-API-Key": acme.token}
    assert client.get("/api/ready").status_code == 200

    for status in (201, 200):
        uploaded = client.post(
            "/api/scans/upload",
            data=reports.envelope(counts=(1, 2, 3)),
            content_type="application/json",
            headers=key,
        )
        assert uploaded.status_code == status, uploaded.data
    newer = reports.trivy("registry.test/acme/new:1")
    assert (
        client.post(
            "/api/scans/upload", data=newer, content_type="application/json", headers=key
        ).status_code
        == 201
    )

    image = f"/api/images/{uploaded.json['imageId']}"
    for path in (
        "/api/images",
        "/api/images?search=acme&sort=riskScore:asc",
        "/api/images/summary",
        "/api/images/changes",
        "/api/images/export",
        "/api/vulnerabilities?cveId=cve",
        "/api/images/lookup?ref=registry.test/acme/new:1",
        "/api/registries",
        image,
        f"{image}/tags",
        f"{image}/vulnerabilities?search=cve",
        "/api/audit-log",
    ):
        assert client.get(path, headers=key, buffered=True).status_code == 200, path
    assert client.get("/api/images", headers=token, buffered=True).status_code == 200
    for table in ("api_keys", "personal_access_tokens"):
        query = f"SELECT FROM {table} WHERE organization_id = %s AND last_used_at IS NOT NULL"
        assert owner.execute(query.encode(), [acme.organization_id]).rowcount == 1, table


def test_gunicorn_starts_and_is_ready(service_config: Config, tenants: Tenants) -> None:
    with serving(DATABASE_URL=service_config.database_url) as running:
        assert running.request("/api/ready").status == 200
        assert running.request("/api/images", tenants.globex.headers).status == 200


def test_document_names_the_command_of_this_test() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    command = f"psql -v ON_ERROR_STOP=1 -v role={ROLE} harborguard' \\\n    < /opt/harborguard"
    assert f"{command}/{SCRIPT.relative_to(ROOT)}\n" in text


def test_scans_and_images_are_deleted_and_recorded(
    client: FlaskClient, tenants: Tenants, owner: Connection
) -> None:
    """The newer scan supersedes the older one, which its deletion makes current again."""
    key = {"X-API-Key": tenants.acme.add_key(Role.ADMIN)}
    targets, uploads = [], []
    for number, moment in enumerate((SCANNED_AT, SCANNED_AT + DAY)):
        uploaded = client.post(
            "/api/scans/upload",
            data=reports.envelope(
                "ghcr.io/acme/deleted:1", (1,), finished_at=moment, scan_id=f"deleted-{number}"
            ),
            content_type="application/json",
            headers=key,
        )
        assert uploaded.status_code == 201, uploaded.data
        uploads.append(uploaded.json)
    scan_id, image_id = uploads[1]["scanId"], uploads[1]["imageId"]
    for path, target in (
        (f"/api/scans/{scan_id}", f"scan/{scan_id}"),
        (f"/api/images/{image_id}", f"image/{image_id}"),
    ):
        response = client.delete(path, headers=key)
        assert response.status_code == 204, response.data
        targets.append(target)
    query = "SELECT target FROM audit_log WHERE target = ANY (%s) ORDER BY created_at"
    assert owner.execute(query, [targets]).fetchall() == [(target,) for target in targets]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET actor = 'cli:mallory'",
        "UPDATE audit_log SET created_at = now()",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "TRUNCATE organizations CASCADE",
        "DROP TABLE audit_log",
        "ALTER TABLE audit_log DISABLE TRIGGER ALL",
        "CREATE TABLE spare (id integer)",
        "CREATE INDEX ON audit_log (actor)",
        "INSERT INTO users (organization_id, email, role, status) VALUES ('o', 'e', 'ci', 'active')",
        "UPDATE users SET role = 'owner'",
        "UPDATE api_keys SET role = 'owner'",
        "UPDATE api_keys SET revoked_at = NULL",
        "DELETE FROM api_keys",
        "UPDATE personal_access_tokens SET user_id = 'usr-1'",
        "DELETE FROM registries",
        "DELETE FROM organizations",
        "DELETE FROM schema_migrations",
        "SET ROLE harborguard",
    ],
)
def test_statement_outside_of_the_privileges_is_refused(
    service: Connection, tenants: Tenants, statement: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
        service.execute(statement.encode())
    assert refused.value.sqlstate == "42501"


def test_privileges_are_exactly_these_and_a_second_run_changes_nothing(
    server: Cluster, owner: Connection
) -> None:
    """Too many privileges of an earlier run are removed."""
    owner.execute(f"GRANT ALL ON audit_log, users TO {ROLE}".encode())
    owner.execute(f"GRANT UPDATE (role) ON users TO {ROLE}".encode())
    grant(server)
    rows = server.execute(
        "SELECT relname, string_agg(left(replace(replace(lower(privilege_type), 'insert',"
        " 'append'), 'select', 'read'), 1), '' ORDER BY array_position(ARRAY['INSERT', 'SELECT',"
        " 'UPDATE', 'DELETE'], privilege_type))"
        " FROM pg_class CROSS JOIN aclexplode(relacl) WHERE relkind IN ('r', 'v')"
        f" AND relnamespace = 'public'::regnamespace AND grantee = '{ROLE}'::regrole"
        " GROUP BY relname"
    )
    letters = {name: text.replace("u", "w") for name, text in rows}
    assert letters == PRIVILEGES
    columns = server.execute(
        "SELECT attrelid::regclass::text, attname, privilege_type"
        " FROM pg_attribute CROSS JOIN aclexplode(attacl)"
        f" WHERE grantee = '{ROLE}'::regrole ORDER BY 1"
    )
    assert columns == [
        ("api_keys", "last_used_at", "UPDATE"),
        ("personal_access_tokens", "last_used_at", "UPDATE"),
    ]


def test_service_can_use_the_table_of_a_later_migration(
    server: Cluster, owner: Connection, service: Connection
) -> None:
    known = read_migrations()
    later = Migration(len(known) + 1, "9999_later", "CREATE TABLE later (id integer)")
    try:
        assert migrate(owner, [*known, later]) == ["9999_later"]
        service.execute("INSERT INTO later VALUES (1)")
        service.execute("UPDATE later SET id = 2")
        assert service.execute("DELETE FROM later RETURNING id").fetchall() == [(2,)]
    finally:
        owner.execute("DROP TABLE IF EXISTS later")
        owner.execute("DELETE FROM schema_migrations WHERE number = %s", [later.number])
