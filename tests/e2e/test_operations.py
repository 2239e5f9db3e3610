"""docs/operations.md, typed: its lines do what it says."""

import os
import re
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
    """The line of the document that begins so."""
    [found] = re.findall(rf"^{beginning}.*$", TEXT, re.MULTILINE)
    return found


def block(beginning: str) -> str:
    """The lines of the document's block whose first line begins so."""
    [found] = re.findall(
        rf"^ *```console\n( *{beginning}.*?)^ *```$", TEXT, re.MULTILINE | re.DOTALL
    )
    return found


SHIMS = {
    "su": '#!/bin/bash\nexec bash -c "$3"\n',
    "systemctl": '#!/bin/bash\necho "$@" >> "$HOME/systemctl"\n',
    "harborguard": f'#!/bin/bash\nexec "{Path(sys.executable).parent}/harborguard" "$@"\n',
}


def shell(commands: str, home: Path, database: Cluster) -> None:
    """Types lines as an operator of this server, whose accounts and units are stood in for."""
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
    here = commands.replace("/var/backups", str(home))
    subprocess.run(["bash", "-ec", here], check=True, cwd=home, env=environment)


def listed(database: Cluster, key: str) -> bytes:
    """What a service on this database answers."""
    with serving(DATABASE_URL=database.url) as service:
        assert service.request("/api/ready").status == 200
        return service.request("/api/images?limit=200", {"X-API-Key": key}).body


def test_what_is_dumped_is_restored(tmp_path: Path) -> None:
    """And what was there before stays beside it."""
    with cluster() as database:
        [key, *_] = seed(database.url)
        before = listed(database, key)
        assert b"image-39" in before

        shell(block("install -d -m 700 /var/backups"), tmp_path, database)
        [dump] = (tmp_path / "harborguard").iterdir()
        assert key.encode() not in dump.read_bytes()
        modes = [oct(path.stat().st_mode)[-3:] for path in (dump, dump.parent)]
        assert (dump.suffix, modes) == (".dump", ["600", "700"])

        database.execute("UPDATE images SET name = name || '-spoiled'")
        shell(f"DUMP={dump}\n{block('systemctl stop')}", tmp_path, database)
        assert listed(database, key) == before
        names = {name for (name,) in database.execute("SELECT datname FROM pg_database")}
        assert {"harborguard", "harborguard_before"} <= names
        units = "harborguard.socket harborguard.service"
        assert (tmp_path / "systemctl").read_text() == f"stop {units}\nstart {units}\n"


def test_a_dump_that_fails_leaves_the_others(tmp_path: Path) -> None:
    with cluster() as database:
        database.execute("SELECT 1")
        missing = block("install -d -m 700 /var/backups").replace(" harborguard'", " nothing'")
        with pytest.raises(subprocess.CalledProcessError):
            shell(missing, tmp_path, database)
    assert not list((tmp_path / "harborguard").glob("*.dump"))


def test_the_role_is_given_what_the_options_say(config: Config) -> None:
    """Behind a pooler there are no options; the document's lines stand for each of them."""
    options = request_settings(Config(database_url=config.database_url))["options"]
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


def test_secrets_come_as_files(tenants: Tenants, database_url: str, tmp_path: Path) -> None:
    """As systemd's credentials and containers' secrets do, with a newline, or empty."""
    (tmp_path / "url").write_text(f"{database_url}\n")
    (tmp_path / "secret").write_text("")
    files = {
        "DATABASE_URL_FILE": str(tmp_path / "url"),
        "NEXTAUTH_SECRET_FILE": str(tmp_path / "secret"),
    }
    with serving(**files) as service:
        assert service.request("/api/images", tenants.acme.headers).status == 200


@pytest.mark.parametrize("name", ["git", "make", "python3-venv", "openssl", "nginx", "postgresql"])
def test_what_has_to_be_installed_is_named(name: str) -> None:
    assert name in line(r" +apt-get install").split()
