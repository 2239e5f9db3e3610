"""The command line, on a real database."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from harborguard import __version__
from harborguard.cli import main
from harborguard.store.connection import Connection
from tests.support.commands import Commands

ENVELOPE = {
    "version": "1.0",
    "image": {"ref": "ghcr.io/acme/api:1.4", "name": "api", "tag": "1.4"},
    "scan": {
        "id": "scan-a",
        "startedAt": "2026-04-26T14:20:00Z",
        "finishedAt": "2026-04-26T14:22:11Z",
        "status": "SUCCESS",
    },
    "findings": {
        "vulnerabilities": [
            {"cveId": "CVE-2026-1", "source": "trivy", "severity": "HIGH", "packageName": "zlib"}
        ],
        "packages": [],
        "compliance": [],
        "efficiency": [],
    },
    "aggregates": {},
    "sensor": {},
}


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A report on disk."""
    path = tmp_path / "report.json"
    path.write_text(json.dumps(ENVELOPE))
    return path


def test_it_works(run: Commands, report: Path, client: FlaskClient) -> None:
    """From nothing to a row, as the README tells."""
    assert run("user add Dev@Acme.test --org acme --role developer").exit_code == 0
    key = run.secret("key create pipeline --org acme --expires 90d")
    token = run.secret("token create laptop --user dev@acme.test")

    result = run(f"ingest {report} --org acme")

    assert (result.exit_code, result.stdout) == (0, "")
    assert re.fullmatch(
        rf"{re.escape(str(report))}: recorded as scan-\w+ of img-\w+\n", result.stderr
    )
    for secret in (key, token):
        body = client.get("/api/images", headers={"X-API-Key": secret}).json
        assert body is not None
        [row] = body["data"]
        assert (row["name"], row["latestTag"], row["riskScore"], row["grade"]) == (
            "ghcr.io/acme/api",
            "1.4",
            25,
            "B",
        )
    assert run(f"ingest {report} --org acme").stderr.count("recorded before as scan-") == 1


def test_a_recount_says_what_is_wrong_and_repairs_it(
    run: Commands, conn: Connection, report: Path
) -> None:
    assert run(f"ingest {report} --org acme").exit_code == 0
    assert run("recount").stderr == "0 counters were wrong\n"
    [organization_id, day] = conn.execute(
        "UPDATE image_days SET n = 3 RETURNING organization_id, day"
    ).fetchone() or ["", ""]
    conn.execute("UPDATE inventories SET image_count = 2")

    told = f"{organization_id}: {day}: kept 3, counted 1\n{organization_id}: all images: kept 2, counted 1\n"
    wrong = run("recount --org acme")
    assert (wrong.exit_code, wrong.stderr) == (1, f"{told}2 counters were wrong\n")
    repaired = run("recount --repair")
    assert repaired.exit_code == 0
    assert repaired.stderr == f"{told}2 counters were wrong and are repaired\n"
    assert (run("recount").exit_code, run("recount").stderr) == (0, "0 counters were wrong\n")


def test_every_command_explains_itself(run: Commands) -> None:
    def walk(command: click.Command, path: list[str]) -> None:
        result = run(" ".join([*path, "--help"]))
        assert result.exit_code == 0
        assert command.help
        if isinstance(command, click.Group):
            for name, child in command.commands.items():
                walk(child, [*path, name])

    walk(main, [])
    assert run("--version").stdout == f"harborguard, version {__version__}\n"


def test_an_organization_is_an_id_or_a_name(run: Commands, conn: Connection) -> None:
    [organization_id] = conn.execute("SELECT id FROM organizations").fetchone() or [None]
    assert run(f"key list --org {organization_id}").exit_code == 0
    assert run("key list --org acme").exit_code == 0
    result = run("key list --org nobody")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no organization 'nobody'" in result.stderr
    result = run("org create acme")
    assert (result.exit_code, "already" in result.stderr) == (1, True)


def test_keys_are_listed_without_their_secrets_and_revoked(
    run: Commands, client: FlaskClient
) -> None:
    key = run.secret("key create bound --org acme --role viewer --registry GHCR.io")
    [line] = run("key list --org acme").stdout.splitlines()[1:]
    assert key not in line
    assert [line.split()[i] for i in (1, 2, 3, 4)] == ["bound", key[:10], "viewer", "ghcr.io"]
    assert client.get("/api/images", headers={"X-API-Key": key}).status_code == 200

    assert run(f"key revoke {line.split()[0]}").exit_code == 0

    assert client.get("/api/images", headers={"X-API-Key": key}).status_code == 401
    assert run("key revoke key-unknown").exit_code == 1


def test_tokens_are_listed_and_revoked(run: Commands, client: FlaskClient) -> None:
    run("user add dev@acme.test --org acme --role viewer")
    token = run.secret("token create laptop --user DEV@acme.test --expires 2099-01-31")
    [line] = run("token list --user dev@acme.test").stdout.splitlines()[1:]
    assert (token not in line, "2099-01-31T00:00:00Z" in line) == (True, True)
    assert run(f"token revoke {line.split()[0]}").exit_code == 0
    assert client.get("/api/images", headers={"X-API-Key": token}).status_code == 401
    assert (
        "there is no user nobody@acme.test"
        in run("token create laptop --user nobody@acme.test").stderr
    )


def test_who_has_no_tokens_is_not_nobody(run: Commands) -> None:
    run("user add dev@acme.test --org acme --role viewer")
    none, nobody = (run(f"token list --user {name}@acme.test") for name in ("dev", "nobody"))
    assert (none.exit_code, none.stdout, none.stderr) == (0, "", "none\n")
    assert (nobody.exit_code, nobody.stdout) == (1, "")
    assert nobody.stderr == "Error: there is no user nobody@acme.test\n"


def test_a_key_is_bound_to_a_host(run: Commands) -> None:
    refused = run("key create ci --org acme --registry ghcr.io/acme")
    assert refused.exit_code == 1
    assert "The registry's host is malformed; allowed is host, host:port" in refused.stderr


def test_users_change_at_the_next_request(run: Commands, client: FlaskClient) -> None:
    run("user add dev@acme.test --org acme --role viewer")
    token = run.secret("token create laptop --user dev@acme.test")
    assert run("user set dev@acme.test --status suspended").exit_code == 0
    assert client.get("/api/images", headers={"X-API-Key": token}).status_code == 401
    assert run("user set Dev@acme.test --status active --role owner").exit_code == 0
    assert client.get("/api/images", headers={"X-API-Key": token}).status_code == 200
    assert run("user set dev@acme.test").exit_code == 2
    assert run("user set nobody@acme.test --role owner").exit_code == 1
    assert run("user add dev@ACME.test --org acme --role viewer").exit_code == 1
    assert run("user set dev@acme.test --role janitor").exit_code == 2


@pytest.mark.parametrize("address", ["dev", "dev@", "@acme.test", "a@b@c", "a\x00@b.test"])
def test_an_address_must_be_one(run: Commands, address: str) -> None:
    result = CliRunner().invoke(
        main, ["user", "add", address, "--org", "acme", "--role", "viewer"], env=run.environment
    )
    assert result.exit_code in {1, 2}
    assert "address" in result.stderr


@pytest.mark.parametrize("name", ["", " ", "a\x00b", "a\nb", "x" * 300])
def test_a_name_must_be_one(run: Commands, name: str) -> None:
    for line in (["org", "create", name], ["key", "create", name, "--org", "acme"]):
        result = CliRunner().invoke(main, line, env=run.environment)
        assert (result.exit_code, "name" in result.stderr.lower()) == (2, True)


@pytest.mark.parametrize(
    ("expires", "days"), [("90d", 90), ("1D", 1), ("2099-01-31", None), ("2099-01-31T10:00:00Z", None)]
)  # fmt: skip
def test_expiry(run: Commands, conn: Connection, expires: str, days: int | None) -> None:
    run.secret(f"key create k --org acme --expires {expires}")
    [moment] = conn.execute("SELECT expires_at FROM api_keys").fetchone() or [None]
    expected = (
        datetime.now(UTC) + timedelta(days=days)
        if days
        else datetime.fromisoformat(expires.replace("Z", "")).replace(tzinfo=UTC)
    )
    assert moment is not None
    assert abs(moment - expected) < timedelta(minutes=1)


@pytest.mark.parametrize("expires", ["", "90", "d", "-1d", "0d", "1h", "2020-01-01", "tomorrow", "9" * 20 + "d", "9999-12-31T23:59:59-23:59"])  # fmt: skip
def test_a_bad_expiry_makes_no_key(run: Commands, conn: Connection, expires: str) -> None:
    result = CliRunner().invoke(
        main, ["key", "create", "k", "--org", "acme", f"--expires={expires}"], env=run.environment
    )
    assert (result.exit_code, result.stdout) == (2, "")
    assert conn.execute("SELECT count(*) FROM api_keys").fetchone() == (0,)


def test_a_bad_file_does_not_stop_the_others(
    run: Commands, report: Path, tmp_path: Path, conn: Connection
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    missing = tmp_path / "missing.json"

    result = run(f"ingest {bad} {missing} {tmp_path} {report} --org acme")

    lines = result.stderr.splitlines()
    assert result.exit_code == 1
    assert [line.split(": ")[1][:12] for line in lines[:4]] == [
        "not recorded",
        "not recorded",
        "not recorded",
        "recorded as ",
    ]
    assert lines[4] == "3 of 4 files were not recorded"
    assert conn.execute("SELECT count(*) FROM scans").fetchone() == (1,)


def test_a_report_comes_through_standard_input(run: Commands) -> None:
    result = run("ingest - --org acme --image quay.io/acme/web:2", input=json.dumps(ENVELOPE))
    assert (result.exit_code, "-: recorded as" in result.stderr) == (0, True)


def test_a_bad_image_is_named(run: Commands, report: Path, conn: Connection) -> None:
    result = run(f"ingest {report} --org acme --image Upper/Case")
    assert result.exit_code == 1
    assert "image" in result.stderr
    assert conn.execute("SELECT count(*) FROM images").fetchone() == (0,)


def test_hostile_text_does_not_reach_the_terminal(run: Commands, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["ingest", "/nowhere/\x1b[31mred\n.json", "--org", "acme"], env=run.environment
    )
    assert "\x1b" not in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_an_older_schema_is_named_with_the_cure(run: Commands, conn: Connection) -> None:
    conn.execute("UPDATE schema_migrations SET number = -1 WHERE number = 1")
    try:
        result = run("key list --org acme")
    finally:
        conn.execute("UPDATE schema_migrations SET number = 1 WHERE number = -1")
    assert result.exit_code == 1
    assert "run: harborguard migrate" in result.stderr


def test_migrate_is_harmless_to_repeat(run: Commands) -> None:
    result = run("migrate")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "the schema is up to date\n"


@pytest.mark.parametrize(
    "url", ["host=/nowhere", "postgresql://user:hunter2@127.0.0.1:1/x", "nonsense"]
)
def test_without_a_database_it_says_why_and_no_secret(url: str) -> None:
    result = CliRunner().invoke(main, ["org", "create", "x"], env={"DATABASE_URL": url})
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "hunter2" not in result.output
