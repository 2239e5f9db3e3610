"""docs/operations.md, typed: its lines do what it says."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from harborguard.cli import main
from harborguard.config import Config
from harborguard.store import pool
from harborguard.store.pool import connect
from tests.cast import Cast
from tests.e2e.rig import program
from tests.e2e.service import ROOT, serving
from tests.postgres import scratch_database

TEXT = (ROOT / "docs/operations.md").read_text()


def line(beginning: str) -> str:
    """The line of the document that begins so."""
    [found] = re.findall(rf"^{beginning}.*$", TEXT, re.MULTILINE)
    return found


def shell(command: str, directory: Path, url: str) -> None:
    """Types a line, with PostgreSQL's programs at hand."""
    path = f"{Path(program('psql')).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "DATABASE_URL": url}
    subprocess.run(command, shell=True, check=True, cwd=directory, env=environment)


def test_what_is_dumped_is_restored(
    cast: Cast, database_url: str, server_url: str, tmp_path: Path
) -> None:
    for number in range(30):
        cast.acme.add_image(f"ghcr.io/acme/image-{number}", number)
    shell(line("pg_dump --format=custom --file=harborguard.dump"), tmp_path, database_url)
    dump = (tmp_path / "harborguard.dump").read_bytes()
    assert cast.acme.key.encode() not in dump
    with scratch_database(server_url) as restored:
        shell(line("pg_restore"), tmp_path, restored)
        lists = []
        for url in (database_url, restored):
            with serving(DATABASE_URL=url) as service:
                assert service.ask("/api/ready").status == 200
                lists.append(service.ask("/api/images?limit=200", cast.acme.headers).body)
        assert lists[0] == lists[1]
        assert b"image-29" in lists[0]


def test_the_role_is_given_what_the_options_say(config: Config) -> None:
    """Behind a pooler there are no options; the document's lines stand for each of them."""
    options = pool._connection_settings(Config(database_url=config.database_url))["options"]
    expected = dict(re.findall(r"-c (\w+)=(\S+)", options))
    told = dict(re.findall(r"^ALTER ROLE harborguard SET (\w+) = (.+);$", TEXT, re.MULTILINE))
    assert set(told) == set(expected)
    with connect(config) as conn:
        for name, value in told.items():
            conn.execute(f"SET {name} = {value}")  # pyright: ignore
            as_told = conn.execute(f"SHOW {name}").fetchone()  # pyright: ignore
            conn.execute(f"SET {name} = '{expected[name]}'")  # pyright: ignore
            assert conn.execute(f"SHOW {name}").fetchone() == as_told, name  # pyright: ignore


def test_migrations_refuse_a_pooler(database_url: str) -> None:
    environment = {"DATABASE_URL": database_url, "HARBORGUARD_POOLER": "on"}
    result = CliRunner().invoke(main, ["migrate"], env=environment)
    assert result.exit_code == 1
    assert "set DATABASE_URL to the server itself" in result.stderr


def test_secrets_come_as_files(cast: Cast, database_url: str, tmp_path: Path) -> None:
    """As systemd's credentials and containers' secrets do, with a newline, or empty."""
    (tmp_path / "url").write_text(f"{database_url}\n")
    (tmp_path / "secret").write_text("")
    files = {
        "DATABASE_URL_FILE": str(tmp_path / "url"),
        "NEXTAUTH_SECRET_FILE": str(tmp_path / "secret"),
    }
    with serving(**files) as service:
        assert service.ask("/api/images", cast.acme.headers).status == 200


@pytest.mark.parametrize("name", ["git", "make", "python3-venv", "openssl", "nginx", "postgresql"])
def test_what_has_to_be_installed_is_named(name: str) -> None:
    assert name in line(r" +apt-get install").split()
