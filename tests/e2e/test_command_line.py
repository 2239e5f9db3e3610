"""The command line on a real database."""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from harborguard import __version__
from harborguard.cli import main
from harborguard.cli import prune as cli_prune
from harborguard.store.connection import Connection
from harborguard.store.statements import MIGRATIONS
from tests.support import reports
from tests.support.commands import Commands
from tests.support.postgres import scratch_database
from tests.support.reports import stored_rows
from tests.support.tenants import with_names

ROOT = Path(__file__).parents[2]
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
    """Return a file with a valid report."""
    path = tmp_path / "report.json"
    path.write_text(json.dumps(ENVELOPE))
    return path


def test_ingested_report_is_listed_for_a_new_key_and_token(
    run: Commands, report: Path, client: FlaskClient
) -> None:
    assert run("user add Dev@Acme.test --org acme --role developer").exit_code == 0
    key = run.secret("key create pipeline --org acme --expires 90d")
    token = run.secret("token create laptop --user dev@acme.test")

    result = run(f"ingest {report} --org acme")

    assert (result.exit_code, result.stdout) == (0, "")
    assert re.fullmatch(
        rf"{re.escape(str(report))}: recorded as scan-\w+ of image img-\w+\n", result.stderr
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
    assert run(f"ingest {report} --org acme").stderr.count("already recorded as scan-") == 1


def test_ingest_sample_report_of_the_documentation_lists_its_findings(
    run: Commands, client: FlaskClient
) -> None:
    key = run.secret("key create pipeline --org acme")

    result = run(f"ingest {shlex.quote(str(ROOT / 'docs/samples/trivy-report.json'))} --org acme")

    assert result.exit_code == 0, result.stderr
    body = client.get("/api/images", headers={"X-API-Key": key}).json
    assert body is not None
    [row] = body["data"]
    assert (row["name"], row["latestTag"]) == ("ghcr.io/acme/api", "1.4")
    assert row["vulnerabilities"] == {"critical": 1, "high": 4, "medium": 1, "low": 1}


def run_python(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the project's directory, with settings that name a database."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.parametrize("start", [["-m", "harborguard", "org", "list"], ["-c", "import wsgi"]])
def test_production_process_does_not_import_harborguard_dev(
    run: Commands, database_url: str, start: list[str]
) -> None:
    result = run_python(database_url, "-X", "importtime", *start)
    imported = re.findall(r"\| +(harborguard[\w.]*)$", result.stderr, re.MULTILINE)
    assert "harborguard.store.connection" in imported
    assert [name for name in imported if name.startswith("harborguard.dev")] == []


def test_python_m_harborguard_runs_the_command_line(run: Commands, database_url: str) -> None:
    usage = run_python(database_url, "-m", "harborguard", "--help").stdout
    assert usage.startswith("Usage: harborguard [OPTIONS] COMMAND")
    assert "acme" in run_python(database_url, "-m", "harborguard", "org", "list").stdout


def test_recount_reports_incorrect_counters_and_repairs_them(
    run: Commands, conn: Connection, report: Path
) -> None:
    assert run(f"ingest {report} --org acme").exit_code == 0
    assert run("recount").stderr == "0 incorrect counters\n"
    [organization_id, registry_id] = conn.execute(
        "UPDATE image_counts SET n = 3 RETURNING organization_id, registry_id"
    ).fetchone() or ["", ""]
    conn.execute("UPDATE inventories SET image_count = 2")

    lines = (
        f"{organization_id}: {registry_id}, score 25: stored 3, counted 1\n"
        f"{organization_id}: all images: stored 2, counted 1\n"
    )
    wrong = run("recount --org acme")
    assert (wrong.exit_code, wrong.stderr) == (1, f"{lines}2 incorrect counters\n")
    repaired = run("recount --repair")
    assert repaired.exit_code == 0
    assert repaired.stderr == f"{lines}2 incorrect counters, repaired\n"
    assert (run("recount").exit_code, run("recount").stderr) == (0, "0 incorrect counters\n")


def test_every_command_has_a_help_text(run: Commands) -> None:
    def walk(command: click.Command, path: list[str]) -> None:
        result = run(" ".join([*path, "--help"]))
        assert result.exit_code == 0
        assert command.help
        if isinstance(command, click.Group):
            for name, child in command.commands.items():
                walk(child, [*path, name])

    walk(main, [])
    assert run("--version").stdout == f"harborguard, version {__version__}\n"


def test_org_option_accepts_id_and_name_and_rejects_others(run: Commands, conn: Connection) -> None:
    [organization_id] = conn.execute("SELECT id FROM organizations").fetchone() or [None]
    assert run(f"key list --org {organization_id}").exit_code == 0
    assert run("key list --org acme").exit_code == 0
    result = run("key list --org unknown")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: The organization 'unknown' does not exist.\n"
    result = run("org create acme")
    assert (result.exit_code, "already exists" in result.stderr) == (1, True)


def read_table(text: str) -> list[list[str]]:
    """Return the cells of a printed table whose values have no spaces."""
    return [line.split() for line in text.splitlines()]


def test_org_list_prints_id_and_name_of_all_organizations(run: Commands, conn: Connection) -> None:
    assert run("org create aardvark").exit_code == 0
    expected = conn.execute("SELECT id, name FROM organizations ORDER BY name").fetchall()
    table = read_table(run("org list").stdout)
    assert table == [["id", "name", "deleting_since"], *([*row, "-"] for row in expected)]


def test_user_list_prints_users_of_one_organization_or_all(run: Commands) -> None:
    assert run("user list").stderr == "none\n"
    run("org create globex")
    run("user add dev@acme.test --org acme --role developer")
    run("user add boss@globex.test --org globex --role owner")
    run("user set boss@globex.test --status suspended")

    header, *rows = read_table(run("user list").stdout)

    assert header == ["id", "email", "role", "status", "organization"]
    assert [row[1:] for row in rows] == [
        ["boss@globex.test", "owner", "suspended", "globex"],
        ["dev@acme.test", "developer", "active", "acme"],
    ]
    assert read_table(run("user list --org acme").stdout) == [header, rows[1]]
    assert run("user list --org unknown").exit_code == 1


def test_key_list_omits_the_secret_and_revoked_key_is_rejected(
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


def test_token_list_omits_the_secret_and_revoked_token_is_rejected(
    run: Commands, client: FlaskClient
) -> None:
    run("user add dev@acme.test --org acme --role viewer")
    token = run.secret("token create laptop --user DEV@acme.test --expires 2099-01-31")
    [line] = run("token list --user dev@acme.test").stdout.splitlines()[1:]
    assert (token not in line, "2099-01-31T00:00:00Z" in line) == (True, True)
    assert run(f"token revoke {line.split()[0]}").exit_code == 0
    assert client.get("/api/images", headers={"X-API-Key": token}).status_code == 401
    unknown = run("token create laptop --user unknown@acme.test")
    assert "The user unknown@acme.test does not exist." in unknown.stderr


def test_token_list_distinguishes_user_without_tokens_from_unknown_user(run: Commands) -> None:
    run("user add dev@acme.test --org acme --role viewer")
    empty, unknown = (run(f"token list --user {name}@acme.test") for name in ("dev", "unknown"))
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "none\n")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert unknown.stderr == "Error: The user unknown@acme.test does not exist.\n"


@pytest.mark.parametrize("host", ["ghcr.io/acme", "foo"])
def test_registry_that_no_image_name_can_contain_is_rejected_by_every_command(
    run: Commands, conn: Connection, host: str
) -> None:
    for command in ("key create ci --registry", "registry add", "registry sync"):
        result = run(f"{command} {host} --org acme")
        assert result.exit_code == 2
        assert f"'{host}' is not a registry host like ghcr.io or localhost:5000" in result.stderr
    assert conn.execute("SELECT host FROM registries").fetchall() == []


def test_user_set_applies_to_the_next_request(run: Commands, client: FlaskClient) -> None:
    run("user add dev@acme.test --org acme --role viewer")
    token = run.secret("token create laptop --user dev@acme.test")
    assert run("user set dev@acme.test --status suspended").exit_code == 0
    assert client.get("/api/images", headers={"X-API-Key": token}).status_code == 401
    assert run("user set Dev@acme.test --status active --role owner").exit_code == 0
    assert client.get("/api/images", headers={"X-API-Key": token}).status_code == 200
    assert run("user set dev@acme.test").exit_code == 2
    assert run("user set unknown@acme.test --role owner").exit_code == 1
    assert run("user add dev@ACME.test --org acme --role viewer").exit_code == 1
    assert run("user set dev@acme.test --role janitor").exit_code == 2


@pytest.mark.parametrize("address", ["dev", "dev@", "@acme.test", "a@b@c", "a\x00@b.test"])
def test_malformed_email_address_is_rejected(run: Commands, address: str) -> None:
    result = CliRunner().invoke(
        main, ["user", "add", address, "--org", "acme", "--role", "viewer"], env=run.environment
    )
    assert result.exit_code in {1, 2}
    assert "address" in result.stderr


@pytest.mark.parametrize("name", ["", " ", "a\x00b", "a\nb", "x" * 300])
def test_invalid_name_is_rejected(run: Commands, name: str) -> None:
    for line in (["org", "create", name], ["key", "create", name, "--org", "acme"]):
        result = CliRunner().invoke(main, line, env=run.environment)
        assert (result.exit_code, "name" in result.stderr.lower()) == (2, True)


@pytest.mark.parametrize(
    ("expires", "days"),
    [("90d", 90), ("1D", 1), ("2099-01-31", None), ("2099-01-31T10:00:00Z", None)],
)
def test_key_create_expires_accepts_days_and_dates(
    run: Commands, conn: Connection, expires: str, days: int | None
) -> None:
    run.secret(f"key create k --org acme --expires {expires}")
    [expires_at] = conn.execute("SELECT expires_at FROM api_keys").fetchone() or [None]
    expected = (
        datetime.now(UTC) + timedelta(days=days)
        if days
        else datetime.fromisoformat(expires.replace("Z", "")).replace(tzinfo=UTC)
    )
    assert expires_at is not None
    assert abs(expires_at - expected) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "expires",
    [
        *["", "90", "d", "-1d", "0d", "1h", "2020-01-01", "tomorrow", "9" * 20 + "d"],
        "9999-12-31T23:59:59-23:59",
    ],
)
def test_invalid_expiry_creates_no_key(run: Commands, conn: Connection, expires: str) -> None:
    result = CliRunner().invoke(
        main, ["key", "create", "k", "--org", "acme", f"--expires={expires}"], env=run.environment
    )
    assert (result.exit_code, result.stdout) == (2, "")
    assert conn.execute("SELECT count(*) FROM api_keys").fetchone() == (0,)


def test_ingest_continues_after_files_that_cannot_be_recorded(
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


def test_ingest_continues_after_a_report_that_the_database_rejects(
    run: Commands, report: Path, tmp_path: Path, conn: Connection
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_bytes(reports.envelope("ghcr.io/acme/bad:1", (1,), scan_id="bad"))
    conn.execute(
        """
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'out of range' USING ERRCODE = 'numeric_value_out_of_range'; END $$
        """
    )
    conn.execute(
        """
        CREATE TRIGGER fail BEFORE INSERT ON scans FOR EACH ROW
        WHEN (new.external_id = 'bad') EXECUTE FUNCTION fail()
        """
    )
    try:
        result = run(f"ingest {bad} {report} --org acme")
    finally:
        conn.execute("DROP FUNCTION fail CASCADE")
    lines = result.stderr.splitlines()
    assert lines[0] == f"{bad}: not recorded: The report has a value that cannot be stored."
    assert (result.exit_code, lines[2]) == (1, "1 of 2 files were not recorded")
    assert conn.execute("SELECT count(*) FROM scans").fetchone() == (1,)


def test_ingest_reads_standard_input(run: Commands) -> None:
    result = run("ingest - --org acme --image quay.io/acme/web:2", input=json.dumps(ENVELOPE))
    assert (result.exit_code, "-: recorded as" in result.stderr) == (0, True)


def test_ingest_malformed_image_is_named_and_records_nothing(
    run: Commands, report: Path, conn: Connection
) -> None:
    result = run(f"ingest {report} --org acme --image Upper/Case")
    assert result.exit_code == 1
    assert result.stderr.count("has a malformed path") == 1
    assert conn.execute("SELECT count(*) FROM images").fetchone() == (0,)


def test_control_characters_are_not_printed(run: Commands, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["ingest", "/nowhere/\x1b[31mred\n.json", "--org", "acme"], env=run.environment
    )
    first, _ = result.stderr.splitlines()
    assert first.startswith("/nowhere/?[31mred .json: not recorded: ")


def test_older_schema_error_names_the_command_that_migrates(
    run: Commands, conn: Connection
) -> None:
    conn.execute("UPDATE schema_migrations SET number = -1 WHERE number = 1")
    try:
        result = run("key list --org acme")
    finally:
        conn.execute("UPDATE schema_migrations SET number = 1 WHERE number = -1")
    assert result.exit_code == 1
    assert "Run: harborguard migrate" in result.stderr


def test_empty_database_of_database_url_is_not_migrated_by_other_commands(server_url: str) -> None:
    with scratch_database(server_url) as url:
        commands = Commands(url)
        result = commands("org list")
        assert (result.exit_code, "Run: harborguard migrate" in result.stderr) == (1, True)
        assert (
            commands("migrate").stderr.splitlines()[-1] == f"applied {len(MIGRATIONS)} migrations"
        )
        assert commands("org list").stderr == "none\n"


def test_repeated_migrate_changes_nothing(run: Commands) -> None:
    result = run("migrate")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "the schema is up to date\n"


@pytest.mark.parametrize(
    "url", ["host=/nowhere", "postgresql://user:hunter2@127.0.0.1:1/x", "nonsense"]
)
def test_unusable_database_url_is_reported_without_its_password(url: str) -> None:
    result = CliRunner().invoke(main, ["org", "create", "x"], env={"DATABASE_URL": url})
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "hunter2" not in result.output


@pytest.fixture
def old_data(run: Commands, report: Path, conn: Connection) -> None:
    """Record an unseen image, an image with two scans, and an old entry of the audit log."""
    for number, (name, finished_at) in enumerate(
        [("api", "2026-04-01"), ("web", "2026-04-01"), ("web", "2026-04-02")]
    ):
        image = {"ref": f"ghcr.io/acme/{name}:1.4", "name": name, "tag": "1.4"}
        scan = {**ENVELOPE["scan"], "id": str(number), "finishedAt": f"{finished_at}T12:00:00Z"}
        report.write_text(json.dumps({**ENVELOPE, "image": image, "scan": scan}))
        assert run(f"ingest {report} --org acme").exit_code == 0
    conn.execute("UPDATE images SET created_at = '2026-01-01' WHERE name = 'ghcr.io/acme/api'")
    conn.execute("UPDATE scans SET recorded_at = '2026-01-01' WHERE external_id = '0'")
    conn.execute("UPDATE audit_log SET created_at = now() - interval '401 days'")


def count_rows(conn: Connection) -> tuple[int, ...]:
    """Return the numbers of images, scans and audit entries."""
    query = "SELECT (TABLE i), (TABLE s), (TABLE a)"
    counts = ", ".join(
        f"{alias} AS (SELECT count(*) FROM {table})"
        for alias, table in (("i", "images"), ("s", "scans"), ("a", "audit_log"))
    )
    [row] = conn.execute(f"WITH {counts} {query}".encode()).fetchall()
    return row


@pytest.mark.usefixtures("old_data")
def test_prune_deletes_what_its_dry_run_prints(run: Commands, conn: Connection) -> None:
    line = "prune --org acme --unseen-for 90d --keep-scans 1"
    what = "1 images, 1 scans, 0 observations and 1 audit entries\n"
    before = stored_rows(conn), count_rows(conn)
    planned = run(f"{line} --dry-run")
    assert (planned.exit_code, planned.stdout) == (0, "ghcr.io/acme/api\n")
    assert planned.stderr == f"would delete {what}"
    assert (stored_rows(conn), count_rows(conn)) == before == (before[0], (2, 3, 1))

    result = run(line)

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"deleted {what}")
    # Of the audit log, the entries of the run and the deleted image are left.
    assert count_rows(conn) == (1, 1, 2)
    assert run("recount").exit_code == 0


@pytest.mark.usefixtures("old_data")
@pytest.mark.parametrize(
    ("options", "left"),
    [
        ("", (2, 3, 1)),
        ("--audit-for never --keep-scans 1", (2, 2, 2)),
        ("--audit-for 402d", (2, 3, 1)),
        ("--audit-for never --unseen-for 90D", (1, 2, 3)),
        ("--audit-for NEVER --keep-scans 2", (2, 3, 1)),
    ],
)
def test_prune_deletes_only_what_its_options_name(
    run: Commands, conn: Connection, options: str, left: tuple[int, ...]
) -> None:
    """Without options it deletes the old audit entry and records the run."""
    assert run(f"prune --org acme {options}").exit_code == 0
    assert count_rows(conn) == left


@pytest.mark.usefixtures("old_data")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--audit-for never", "nothing to delete: give --unseen-for, --keep-scans or --audit-for"),
        ("--unseen-for 0d", "'--unseen-for': '0d' is not a number of days from 1d to 36500d"),
        ("--unseen-for 36501d", "'36501d' is not a number of days from 1d to 36500d"),
        ("--unseen-for never", "'never' is not a number of days from 1d to 36500d"),
        ("--unseen-for 2026-01-01", "'2026-01-01' is not a number of days from 1d to 36500d"),
        ("--unseen-for 90", "'--unseen-for': '90' is not a number of days from 1d to 36500d"),
        (
            "--audit-for 1h",
            "'--audit-for': '1h' is not a number of days from 1d to 36500d, or never",
        ),
        ("--keep-scans 0", "'--keep-scans': 0 is not in the range x>=1"),
    ],
)
def test_prune_invalid_options_delete_nothing(
    run: Commands, conn: Connection, options: str, message: str
) -> None:
    before = count_rows(conn)
    result = run(f"prune --org acme {options}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(f"{message}\n") or f"{message}." in result.stderr
    assert count_rows(conn) == before


@pytest.mark.usefixtures("old_data")
def test_prune_dry_run_prints_twenty_names_and_the_number_of_others(
    run: Commands, conn: Connection
) -> None:
    conn.execute(
        with_names("""
            INSERT INTO images (organization_id, registry_id, name, created_at)
            SELECT organization_id, registry_id, 'ghcr.io/acme/' || name || n, '2026-01-01'
            FROM images, generate_series(1, 12) AS n
        """).encode()
    )
    result = run("prune --org acme --unseen-for 90d --dry-run")
    assert len(result.stdout.splitlines()) == 20
    assert result.stderr.startswith("and 5 more images\nwould delete 25 images, ")


def test_prune_help_names_what_is_deleted_and_the_default_age_of_audit_entries(
    run: Commands,
) -> None:
    text = " ".join(run("prune --help").stdout.split())
    for option in ("--unseen-for 90d", "--keep-scans N", "[default: 400d]", "--dry-run"):
        assert option in text


@pytest.mark.usefixtures("old_data")
def test_prune_shows_a_progress_bar_on_a_terminal_and_lines_otherwise(
    run: Commands, conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_prune, "_PROGRESS_INTERVAL", 1)
    assert run("prune --org acme --keep-scans 5").stderr.startswith("examined 2 of 2 images\n")
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "harborguard", "prune", "--org", "acme", "--keep-scans", "5"]
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": database_url}
    subprocess.run(command, cwd=ROOT, env=environment, stderr=terminal, check=True)
    os.close(terminal)
    output = os.read(controller, 1 << 16).decode()
    os.close(controller)
    assert "examining images" in output
    assert "100%" in output
    assert output.endswith("0 audit entries\r\n")
