"""The files of deploy/ that cannot be run everywhere, as texts; nginx and systemd check their own."""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = (DEPLOY / "compose.yaml").read_text()
UNIT = (DEPLOY / "harborguard.service").read_text()
NGINX = (DEPLOY / "nginx.conf").read_text()


# What nginx says of `user` where nobody can change accounts anyway.
NOT_ROOTS = '[warn] the "user" directive makes sense only if the master process runs'


def run(*command: str) -> str:
    """What a program that may be missing says; in CI it may not be missing."""
    found = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        assert not os.environ.get("CI"), f"{command[0]} is not installed"
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([found, *command[1:]], capture_output=True, text=True)
    return done.stdout + done.stderr


def test_it_works() -> None:
    """nginx takes its file as it is shipped."""
    said = run("nginx", "-t", "-e", "stderr", "-c", str(DEPLOY / "nginx.conf"))
    if os.geteuid():
        assert "syntax is ok" in said  # who is not root may not open its log
        said = said.replace(NOT_ROOTS, "")
    else:
        assert "test is successful" in said
    assert "warn" not in said


def test_systemd_takes_the_units() -> None:
    paths = [str(DEPLOY / f"harborguard.{kind}") for kind in ("socket", "service")]
    complaints = [
        line
        for line in run("systemd-analyze", "verify", *paths).splitlines()
        if "harborguard" in line and "is not executable" not in line
    ]
    assert complaints == []
    said = run("systemd-analyze", "security", "--offline=true", paths[1])
    [exposure] = re.findall(r"Overall exposure level.*: ([\d.]+)", said)
    assert float(exposure) < 2


def test_the_unit_leaves_time_and_keeps_secrets_in_files() -> None:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # pyright: ignore
    parser.read_string(UNIT)
    service = parser["Service"]
    assert int(service["TimeoutStopSec"]) > 30  # gunicorn's graceful_timeout
    assert (service["Type"], service["DynamicUser"]) == ("notify", "yes")
    for name in ("DATABASE_URL", "NEXTAUTH_SECRET"):
        credential = name.lower().replace("_", "-")
        assert f"LoadCredential={credential}:/etc/harborguard/{credential}\n" in UNIT
        assert f"Environment={name}_FILE=%d/{credential}\n" in UNIT
        assert f"Environment={name}=" not in UNIT


def test_all_agree_on_the_socket() -> None:
    path = "/run/harborguard/harborguard.sock"
    assert f"ListenStream={path}\n" in (DEPLOY / "harborguard.socket").read_text()
    assert NGINX.count(f"server unix:{path} ") == 3
    assert f"HARBORGUARD_BIND: unix:{path}," in COMPOSE


def test_the_image_holds_what_it_needs_and_no_more() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {name for line in copied for name in line.split()}
    allowed = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert sources == allowed == {
        "requirements.lock", "app.py", "wsgi.py", "harborguard", "sql", "deploy/gunicorn.conf.py",
    }  # fmt: skip
    assert all((ROOT / name).exists() for name in sources)
    assert "embedded" not in (ROOT / "requirements.lock").read_text()
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_the_image_is_built_in_stages_and_runs_as_nobody_in_particular() -> None:
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) == 2
    last = DOCKERFILE.split("\nFROM ")[-1]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "pip install" not in last
    assert "--require-hashes" in DOCKERFILE
    assert re.search(r"^HEALTHCHECK .*\n.*/api/health", last, re.MULTILINE)


def test_compose_names_its_parts_and_hides_its_secrets() -> None:
    services = COMPOSE.split("\nservices:\n")[1].split("\nsecrets:\n")[0]
    assert re.findall(r"^  (\w+):$", services, re.MULTILINE) == [
        "database", "migrate", "service", "nginx",
    ]  # fmt: skip
    assert len(re.findall(r"^    ports:$", services, re.MULTILINE)) == 1
    assert "condition: service_completed_successfully" in services
    files = re.findall(r"^    file: (.+)$", COMPOSE, re.MULTILINE)
    assert files == ["./secrets/database-password", "./secrets/database-url"]
    assert "/deploy/secrets/\n" in (ROOT / ".gitignore").read_text()
    assert "!deploy/secrets" not in (ROOT / ".dockerignore").read_text()


@pytest.mark.parametrize("path", sorted(DEPLOY.iterdir()), ids=lambda path: path.name)
def test_no_file_holds_a_working_secret(path: Path) -> None:
    if path.is_file():
        assert not re.search(r"postgres(ql)?://\w+:\w+@", path.read_text())
