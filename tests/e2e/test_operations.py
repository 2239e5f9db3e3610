"""The commands of docs/operations.md, executed as written."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from harborguard.cli import main
from harborguard.config import Config
from harborguard.store.connection import connect, request_settings
from tests.support.fault_injection import Cluster, cluster, program, seed
from tests.support.service import ROOT, serving
from tests.support.tenants import Tenants

TEXT = (ROOT / "docs/operations.md").read_text()


def line(beginning: str) -> str:
    """Return the only line of the document with this beginning."""
    [match] = re.findall(rf"^{beginning}.*$", TEXT, re.MULTILINE)
    return match


def block(beginning: str) -> str:
    """Return the document's console block whose first line has this beginning."""
    [match] = re.findall(
        rf"^ *```console\n( *{beginning}.*?)^ *```$", TEXT, re.MULTILINE | re.DOTALL
    )
    return match


SHIMS = {
    "su": '#!/bin/bash\nexec bash -c "$3"\n',
    "systemctl": '#!/bin/bash\necho "$@" >> "$HOME/systemctl"\n',
    "harborguard": f'#!/bin/bash\nexec {shlex.quote(sys.executable)} -m harborguard "$@"\n',
}


def shell(commands: str, home: Path, database: Cluster) -> None:
    """Run commands as an operator would, with substitutes for su, systemctl and harborguard."""
    shims = home / "shims"
    shims.mkdir(exist_ok=True)
    for name, text in SHIMS.items():
        (shims / name).write_text(text)
        (shims / name).chmod(0o755)
    environment = {
        "PATH": f"{shims}:{Path(program('psql')).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PGHOST": database.socket_directory,
        "PGUSER": "postgres",
        "DATABASE_URL": database.url,
    }
    script = commands.replace("/var/backups", str(home))
    subprocess.run(["bash", "-ec", script], check=True, cwd=home, env=environment)


def list_images(database: Cluster, key: str) -> bytes:
    """Return the response of a service on this database to a list request."""
    with serving(DATABASE_URL=database.url) as service:
        assert service.request("/api/ready").status == 200
        return service.request("/api/images?limit=200", {"X-API-Key": key}).body


def test_restored_dump_lists_the_same_images_and_keeps_the_old_database(tmp_path: Path) -> None:
    with cluster() as database:
        [key, *_] = seed(database.url)
        before = list_images(database, key)
        assert b"image-39" in before

        shell(block("install -d -m 700 /var/backups"), tmp_path, database)
        [dump] = (tmp_path / "harborguard").iterdir()
        assert key.encode() not in dump.read_bytes()
        modes = [oct(path.stat().st_mode)[-3:] for path in (dump, dump.parent)]
        assert (dump.suffix, modes) == (".dump", ["600", "700"])

        database.execute("UPDATE images SET latest_tag = 'spoiled'")
        shell(f"DUMP={dump}\n{block('systemctl stop')}", tmp_path, database)
        assert list_images(database, key) == before
        names = {name for (name,) in database.execute("SELECT datname FROM pg_database")}
        assert {"harborguard", "harborguard_before"} <= names
        units = "harborguard.socket harborguard.service"
        assert (tmp_path / "systemctl").read_text() == f"stop {units}\nstart {units}\n"


def test_failed_dump_leaves_no_file(tmp_path: Path) -> None:
    with cluster() as database:
        database.execute("SELECT 1")
        commands = block("install -d -m 700 /var/backups").replace(" harborguard'", " missing'")
        with pytest.raises(subprocess.CalledProcessError):
            shell(commands, tmp_path, database)
    assert not list((tmp_path / "harborguard").glob("*.dump"))


def test_role_settings_for_a_pooler_equal_the_connection_options(config: Config) -> None:
    """A pooler does not pass connection options on, so the document sets each on the role."""
    options = request_settings(Config(database_url=config.database_url))["options"]
    expected = dict(re.findall(r"-c (\w+)=(\S+)", options))
    documented = dict(re.findall(r"^ALTER ROLE harborguard SET (\w+) = (.+);$", TEXT, re.MULTILINE))
    assert set(documented) == set(expected)
    with connect(config) as conn:
        for name, value in documented.items():
            conn.execute(f"SET {name} = {value}")  # pyright: ignore
            shown = conn.execute(f"SHOW {name}").fetchone()  # pyright: ignore
            conn.execute(f"SET {name} = '{expected[name]}'")  # pyright: ignore
            assert conn.execute(f"SHOW {name}").fetchone() == shown, name  # pyright: ignore


def test_migrate_through_a_pooler_is_rejected(database_url: str) -> None:
    environment = {"DATABASE_URL": database_url, "HARBORGUARD_POOLER": "on"}
    result = CliRunner().invoke(main, ["migrate"], env=environment)
    assert result.exit_code == 1
    assert "Set DATABASE_URL to the PostgreSQL server" in result.stderr


def test_settings_are_read_from_files_with_newline_or_empty(
    tenants: Tenants, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text(f"{database_url}\n")
    (tmp_path / "secret").write_text("")
    files = {
        "DATABASE_URL_FILE": str(tmp_path / "url"),
        "NEXTAUTH_SECRET_FILE": str(tmp_path / "secret"),
    }
    with serving(**files) as service:
        assert service.request("/api/images", tenants.acme.headers).status == 200


@pytest.mark.parametrize("path", ["missing", ".", "file/below"])
def test_unreadable_secret_file_error_names_variable_and_path(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    environment = {"NEXTAUTH_SECRET_FILE": str(tmp_path / path)}
    result = CliRunner().invoke(main, ["org", "list"], env=environment)
    assert result.exit_code == 1
    expected = (
        rf"Error: NEXTAUTH_SECRET_FILE: cannot read {re.escape(str(tmp_path / path))}: \w.*\n"
    )
    assert re.fullmatch(expected, result.stderr)


def test_secret_file_that_is_not_text_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xff" * 40)
    environment = {"NEXTAUTH_SECRET_FILE": str(tmp_path / "secret")}
    result = CliRunner().invoke(main, ["org", "list"], env=environment)
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: NEXTAUTH_SECRET_FILE: the file is not UTF-8 text\n",
    )


@pytest.mark.parametrize("name", ["git", "make", "python3-venv", "openssl", "nginx", "postgresql"])
def test_prerequisite_is_in_the_apt_get_line(name: str) -> None:
    assert name in line(r" +apt-get install").split()
