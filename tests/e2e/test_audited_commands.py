"""Each command of the command line writes exactly the expected entries of the audit log."""

import shlex

import pytest

from harborguard.store.connection import Connection
from tests.support.commands import Commands
from tests.support.service import ROOT

REPORT = ROOT / "docs/samples/trivy-report.json"
SAMPLE = shlex.quote(str(REPORT))
# The commands before, the command, and the actions that it records with the kind of their target.
COMMANDS: list[tuple[list[str], str, list[tuple[str, str]]]] = [
    ([], "org create globex", [("organization.created", "organization")]),
    ([], "user add a@acme.test --org acme --role ci", [("member.added", "user")]),
    (["user add a@acme.test --org acme --role ci"], "user set a@acme.test --role admin",
     [("member.role_changed", "user")]),
    (["user add a@acme.test --org acme --role ci"],
     "user set a@acme.test --role ci --status suspended", [("member.suspended", "user")]),
    (["user add a@acme.test --org acme --role ci", "user set a@acme.test --status suspended"],
     "user set a@acme.test --role viewer --status active",
     [("member.role_changed", "user"), ("member.activated", "user")]),
    (["user add a@acme.test --org acme --role ci"], "user set a@acme.test --status invited",
     [("member.invited", "user")]),
    (["user add a@acme.test --org acme --role ci"],
     "user set a@acme.test --role ci --status active", []),
    ([], "key create pipeline --org acme", [("apikey.created", "apikey")]),
    ([], "key create pipeline --org acme --registry ghcr.io",
     [("registry.added", "registry"), ("apikey.created", "apikey")]),
    (["registry add ghcr.io --org acme"], "key create pipeline --org acme --registry ghcr.io",
     [("apikey.created", "apikey")]),
    (["key create pipeline --org acme"], "key revoke KEY", [("apikey.revoked", "apikey")]),
    (["key create pipeline --org acme", "key revoke KEY"], "key revoke KEY", []),
    (["user add a@acme.test --org acme --role ci"], "token create laptop --user a@acme.test",
     [("token.created", "token")]),
    (["user add a@acme.test --org acme --role ci", "token create laptop --user a@acme.test"],
     "token revoke TOKEN", [("token.revoked", "token")]),
    ([], "registry add ghcr.io --org acme", [("registry.added", "registry")]),
    (["registry add ghcr.io --org acme"], "registry add ghcr.io --org acme", []),
    (["registry add ghcr.io --org acme"], "registry add ghcr.io --org acme --name Mirror",
     [("registry.updated", "registry")]),
    (["registry add ghcr.io --org acme"], "registry add ghcr.io --org acme --provider acr",
     [("registry.updated", "registry")]),
    (["user add a@acme.test --org acme --role ci", "token create laptop --user a@acme.test"],
     "user remove a@acme.test", [("member.removed", "user")]),
    ([f"ingest {SAMPLE} --org acme"], "registry remove ghcr.io --org acme --yes",
     [("registry.removed", "registry")]),
    ([f"ingest {SAMPLE} --org acme"], "image delete ghcr.io/acme/api --org acme",
     [("image.deleted", "image")]),
    (["org create globex"], "org delete globex --confirm globex", []),
    ([], f"ingest {SAMPLE} --org acme", []),
    ([f"ingest {SAMPLE} --org acme"], "recount --repair", []),
    ([f"ingest {SAMPLE} --org acme"], "prune --org acme --unseen-for 1d --keep-scans 1", []),
    ([], "key list --org acme", []),
    ([], "org list", []),
    ([], "user list", []),
]  # fmt: skip
TABLES = {
    "organization": "organizations",
    "user": "users",
    "apikey": "api_keys",
    "token": "personal_access_tokens",
    "registry": "registries",
    "image": "images",
}


def run_with_ids(run: Commands, conn: Connection, line: str) -> None:
    """Run a command in which KEY and TOKEN are the ids of the newest key and token."""
    for word, table in (("KEY", "api_keys"), ("TOKEN", "personal_access_tokens")):
        for (newest,) in conn.execute(f"SELECT max(id) FROM {table}".encode()):
            line = line.replace(f" {word}", f" {newest}")
    result = run(line)
    assert result.exit_code == 0, result.output


def list_targets(conn: Connection) -> set[tuple[str, str, str]]:
    """Return the organization, the kind and the target of everything that a command can change."""
    found: set[tuple[str, str, str]] = set()
    for kind, table in TABLES.items():
        column = "id" if kind == "organization" else "organization_id"
        query = f"SELECT {column}, '{kind}', '{kind}/' || id FROM {table}"
        found |= set(conn.execute(query.encode()).fetchall())
    return found


@pytest.mark.parametrize(("before", "line", "expected"), COMMANDS, ids=str)
def test_command_records_exactly_its_changes(
    run: Commands,
    conn: Connection,
    before: list[str],
    line: str,
    expected: list[tuple[str, str]],
) -> None:
    run.environment["SUDO_USER"] = "alice"
    for earlier in before:
        run_with_ids(run, conn, earlier)
    conn.execute("TRUNCATE audit_log")
    known = list_targets(conn)

    run_with_ids(run, conn, line)

    rows = conn.execute(
        "SELECT actor, action, target, ip, organization_id FROM audit_log ORDER BY created_at"
    ).fetchall()
    assert [row[:2] for row in rows] == [("cli:alice", action) for action, _ in expected]
    for (_, _, target, ip, organization_id), (_, kind) in zip(rows, expected, strict=True):
        assert ip is None
        assert (organization_id, kind, target) in known | list_targets(conn)


def test_failed_command_records_nothing(run: Commands, conn: Connection) -> None:
    run("user add a@acme.test --org acme --role ci")
    conn.execute("TRUNCATE audit_log")
    for line in (
        "org create acme",
        "user add a@acme.test --org acme --role ci",
        "user set nobody@acme.test --role ci",
        "key revoke key-unknown",
        "token revoke pat-unknown",
        "token create laptop --user nobody@acme.test",
        "key create pipeline --org acme --registry not/a/host",
        "user remove nobody@acme.test",
        "registry remove ghcr.io --org acme --yes",
        "image delete ghcr.io/acme/api --org acme",
        "org delete globex --confirm globex",
        "org delete acme --confirm globex",
    ):
        assert run(line).exit_code != 0, line
    assert conn.execute("SELECT count(*) FROM audit_log").fetchall() == [(0,)]


def test_key_of_a_new_registry_that_cannot_be_created_records_nothing(
    run: Commands, conn: Connection
) -> None:
    """The registry is created in the same transaction, so it and its entry are rolled back."""
    conn.execute("TRUNCATE audit_log")
    with conn.transaction():
        conn.execute("ALTER TABLE api_keys ADD CONSTRAINT no_keys CHECK (name <> 'pipeline')")
    try:
        result = run("key create pipeline --org acme --registry ghcr.io")
    finally:
        conn.execute("ALTER TABLE api_keys DROP CONSTRAINT no_keys")
    assert result.exit_code == 1
    counts = "SELECT (SELECT count(*) FROM audit_log), (SELECT count(*) FROM registries)"
    assert conn.execute(counts).fetchall() == [(0, 0)]


def test_sample_report_exists() -> None:
    """Otherwise `ingest` would record nothing for another reason."""
    assert REPORT.is_file()
