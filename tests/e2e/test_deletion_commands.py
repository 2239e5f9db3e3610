"""The commands that delete: confirmation, progress, continuation, and what remains."""

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from harborguard.cli import terminal
from harborguard.store import deletion
from harborguard.store.connection import Connection
from harborguard.store.counters import find_incorrect_counters
from tests.support import reports
from tests.support.commands import Commands
from tests.support.cookies import V4_NAME, make_claims, mint_v4
from tests.support.recording import ingest
from tests.support.service import ROOT


@pytest.fixture
def acme(run: Commands, conn: Connection) -> str:
    """Record five images of Acme in two registries; return the id of Acme."""
    [(organization_id,)] = conn.execute("SELECT id FROM organizations").fetchall()
    for number in range(5):
        host = ("ghcr.io", "quay.io")[number % 2]
        ingest(
            conn, organization_id,
            reports.envelope(f"{host}/acme/api-{number}:1", (1,), scan_id=f"{number}"),
        )  # fmt: skip
    return organization_id


def names(conn: Connection) -> list[str]:
    """Return the names of all images."""
    return [name for (name,) in conn.execute("SELECT name FROM images ORDER BY 1").fetchall()]


def run_on_terminal(database_url: str, line: str, typed: str) -> tuple[int, str]:
    """Run a command on a terminal, and type a line; return the exit status and the output."""
    control, terminal_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "harborguard", *line.split()],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": database_url, "TERM": "xterm"},
        stdin=terminal_end, stdout=terminal_end, stderr=terminal_end,
    )  # fmt: skip
    os.close(terminal_end)
    os.write(control, f"{typed}\n".encode())
    output = b""
    try:
        while part := os.read(control, 4096):
            output += part
    except OSError:  # the process has closed the terminal
        pass
    os.close(control)
    return process.wait(60), output.decode()


@pytest.mark.parametrize("by_id", [True, False])
def test_image_delete_by_id_or_name(
    run: Commands, conn: Connection, acme: str, by_id: bool
) -> None:
    name = "ghcr.io/acme/api-0"
    [(image_id,)] = conn.execute("SELECT id FROM images WHERE name = %s", [name]).fetchall()
    target = image_id if by_id else name

    result = run(f"image delete {target} --org acme")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"deleted image {target}\n"
    assert len(names(conn)) == 4
    assert name not in names(conn)
    again = run(f"image delete {target} --org acme")
    assert (again.exit_code, again.stderr) == (
        1,
        f"Error: The image '{target}' does not exist. "
        "Name it by its id, or as in the list, without a tag: ghcr.io/acme/api\n",
    )
    assert find_incorrect_counters(conn, acme) == []


def test_registry_remove_deletes_its_images_and_keys(
    run: Commands, conn: Connection, acme: str, client: FlaskClient
) -> None:
    bound = run.secret("key create bound --org acme --registry ghcr.io")
    free = run.secret("key create free --org acme")

    result = run("registry remove GHCR.io --org acme --yes")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == (
        "registry ghcr.io has 3 images, and 1 API key limited to it; all of this is deleted\n"
        "removed registry ghcr.io: deleted 3 images\n"
    )
    assert names(conn) == ["quay.io/acme/api-1", "quay.io/acme/api-3"]
    assert client.get("/api/images", headers={"X-API-Key": bound}).status_code == 401
    assert client.get("/api/images", headers={"X-API-Key": free}).status_code == 200
    again = run("registry remove ghcr.io --org acme --yes")
    assert (again.exit_code, again.stderr) == (1, "Error: The registry ghcr.io does not exist.\n")
    assert find_incorrect_counters(conn, acme) == []


def test_org_delete_leaves_nothing_and_frees_the_name(
    run: Commands, conn: Connection, acme: str, client: FlaskClient
) -> None:
    run("user add dev@acme.test --org acme --role viewer")
    secrets = [
        run.secret("key create pipeline --org acme"),
        run.secret("token create laptop --user dev@acme.test"),
    ]

    result = run("org delete acme --confirm acme")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == (
        f"organization acme ({acme}) has 5 images, 1 user and 1 API key; all of this is deleted\n"
        "deleted organization acme: 5 images\n"
    )
    for secret in secrets:
        assert client.get("/api/images", headers={"X-API-Key": secret}).status_code == 401
    assert run("org list").stderr == "none\n"
    assert run("user list").stderr == "none\n"
    again = run("org delete acme --confirm acme")
    assert again.stderr == "Error: The organization 'acme' does not exist.\n"
    assert run("org create acme").exit_code == 0
    assert run("user add dev@acme.test --org acme --role viewer").exit_code == 0


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("registry remove ghcr.io --org acme", "use a terminal, or --yes"),
        ("org delete acme", "use a terminal, or --confirm NAME"),
        ("org delete acme --confirm ACME", "the confirmation is not the organization's name"),
        ("org delete acme --confirm ORG_ID", "the confirmation is not the organization's name"),
    ],
)
def test_command_without_confirmation_deletes_nothing(
    run: Commands, conn: Connection, acme: str, line: str, hint: str
) -> None:
    result = run(line.replace("ORG_ID", acme))
    assert result.exit_code == 2
    assert hint in result.stderr
    assert len(names(conn)) == 5
    assert run("org list").stdout.splitlines()[1].split() == [acme, "acme", "-"]


def test_commands_ask_on_a_terminal_and_show_a_bar(
    run: Commands, conn: Connection, acme: str, database_url: str
) -> None:
    for line, typed in (
        ("registry remove ghcr.io --org acme", "n"),
        ("registry remove ghcr.io --org acme", ""),
        ("org delete acme", "globex"),
        ("org delete acme", acme),
    ):
        status, output = run_on_terminal(database_url, line, typed)
        assert (status != 0, "?" in output or "Type the name" in output) == (True, True), output
        assert len(names(conn)) == 5

    status, output = run_on_terminal(database_url, "registry remove ghcr.io --org acme", "y")
    assert (status, "Remove the registry? [y/N]" in output, "100%" in output) == (0, True, True)
    assert len(names(conn)) == 2
    status, output = run_on_terminal(database_url, "org delete acme", "acme")
    assert (status, "Type the name of the organization" in output) == (0, True)
    assert run("org list").stderr == "none\n"


def test_interrupted_org_delete_is_shown_and_continued(
    run: Commands, conn: Connection, acme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "MAX_IMAGES", 2)
    monkeypatch.setattr(terminal, "PROGRESS_INTERVAL", 2)
    deletion.begin_organization_deletion(conn, acme)
    next(deletion.delete_organization(conn, acme))

    [line] = run("org list").stdout.splitlines()[1:]
    assert line.split()[:2] == [acme, "acme"]
    assert line.split()[2].endswith("Z")
    message = (
        "Error: The organization 'acme' is being deleted. "
        "Complete the deletion with: harborguard org delete acme\n"
    )
    report = tmp_path / "report.json"
    report.write_bytes(reports.envelope("ghcr.io/acme/new:1"))
    for command in (
        "org create acme",
        "key create pipeline --org acme",
        "user add dev@acme.test --org acme --role viewer",
        f"ingest {report} --org acme",
        "registry add ghcr.io --org acme",
        "recount --org acme",
    ):
        result = run(command)
        assert (result.exit_code, result.stderr) == (1, message), command
    assert run("recount").stderr == "0 incorrect counters\n"

    result = run("org delete acme --confirm acme")

    assert (result.exit_code, result.stderr.splitlines()[1:]) == (
        0,
        ["2 of 3 images", "deleted organization acme: 3 images"],
    )


def test_user_remove_ends_tokens_and_sessions_at_once(run: Commands, client: FlaskClient) -> None:
    run("user add dev@acme.test --org acme --role viewer")
    session = mint_v4(make_claims(time.time(), email="dev@acme.test"))
    credentials = [
        {"X-API-Key": run.secret("token create laptop --user dev@acme.test")},
        {"Cookie": f"{V4_NAME}={session}"},
    ]
    for headers in credentials:
        assert client.get("/api/images", headers=headers).status_code == 200

    result = run("user remove Dev@acme.test")

    assert (result.exit_code, result.stderr) == (0, "removed user dev@acme.test\n")
    for headers in credentials:
        assert client.get("/api/images", headers=headers).status_code == 401
    again = run("user remove dev@acme.test")
    assert again.stderr == "Error: The user dev@acme.test does not exist.\n"
    assert run("user add dev@acme.test --org acme --role viewer").exit_code == 0
    assert client.get("/api/images", headers=credentials[0]).status_code == 401
