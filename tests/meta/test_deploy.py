"""Check the files of deploy/ with nginx and systemd, and compare them with the code."""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from werkzeug.exceptions import MethodNotAllowed

from harborguard.api.errors import STATUSES
from harborguard.errors import InvalidRequest, PayloadTooLarge

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = (DEPLOY / "compose.yaml").read_text()
UNIT = (DEPLOY / "harborguard.service").read_text()
NGINX = (DEPLOY / "nginx.conf").read_text()


# Warnings of nginx when a normal user runs it: the account cannot be changed. nginx 1.22 puts the
# process id between the level and the text.
USER_DIRECTIVE = re.compile(r'\[warn\] (?:\d+#\d+: )?the "user" directive makes sense only if .*')


def run(*command: str) -> str:
    """Return the output of a program; skip the test if it is missing, or fail in CI."""
    found = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        assert not os.environ.get("CI"), f"{command[0]} is not installed"
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([found, *command[1:]], capture_output=True, text=True)
    return done.stdout + done.stderr


def test_nginx_configuration_is_valid_without_warnings() -> None:
    output = run("nginx", "-t", "-e", "stderr", "-c", str(DEPLOY / "nginx.conf"))
    if os.geteuid():
        # A normal user cannot open the log files, so the test as a whole does not succeed.
        assert "syntax is ok" in output
        output = USER_DIRECTIVE.sub("", output)
    else:
        assert "test is successful" in output
    assert "warn" not in output


@pytest.mark.parametrize("process", ["", "4711#4711: "])
def test_nginx_warning_about_the_user_is_ignored_in_both_forms(process: str) -> None:
    text = 'the "user" directive makes sense only if the master process runs with super-user'
    output = f"nginx: [warn] {process}{text} privileges, ignored in nginx.conf:7\nnginx: [warn] x"
    assert USER_DIRECTIVE.sub("", output) == "nginx: \nnginx: [warn] x"


def test_nginx_errors_agree_with_those_of_the_api() -> None:
    codes = dict(re.findall(r"^        (\d+) ([A-Z_]+);$", NGINX, re.MULTILINE))
    assert {int(status): code for status, code in codes.items()}.items() <= {
        status: code for code, status in STATUSES.items()
    }.items()
    messages = dict(re.findall(r"^        (\S+) \"(.+\.)\";$", NGINX, re.MULTILINE))
    assert messages["default"] == InvalidRequest().message
    assert messages["405"] == MethodNotAllowed.description
    assert messages["413"] == PayloadTooLarge().message
    assert set(codes) <= set(messages)


@pytest.mark.parametrize(
    ("trigger", "service"),
    [
        ("harborguard.socket", "harborguard.service"),
        ("harborguard-prune.timer", "harborguard-prune.service"),
    ],
)
def test_systemd_units_are_valid_and_confined(trigger: str, service: str) -> None:
    paths = [str(DEPLOY / trigger), str(DEPLOY / service)]
    problems = [
        line
        for line in run("systemd-analyze", "verify", *paths).splitlines()
        if "harborguard" in line and "is not executable" not in line
    ]
    assert problems == []
    output = run("systemd-analyze", "security", "--offline=true", paths[1])
    [exposure] = re.findall(r"Overall exposure level.*: ([\d.]+)", output)
    assert float(exposure) < 2


def test_unit_waits_for_gunicorn_and_reads_secrets_from_files() -> None:
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


def test_unit_that_prunes_uses_the_settings_and_the_confinement_of_the_service() -> None:
    unit = (DEPLOY / "harborguard-prune.service").read_text()
    for line in (
        "LoadCredential=database-url:/etc/harborguard/database-url",
        "Environment=DATABASE_URL_FILE=%d/database-url",
        "EnvironmentFile=-/etc/harborguard/environment",
    ):
        assert f"\n{line}\n" in unit
        assert f"\n{line}\n" in UNIT
    confinement = re.findall(
        r"^(?:(?:Private|Protect|Restrict|SystemCall|Dynamic|Capability).*)$", UNIT, re.MULTILINE
    )
    assert len(confinement) > 15
    assert set(confinement) <= set(unit.splitlines())
    # The script that the unit runs keeps the variable that names the secret.
    assert "DATABASE_URL_FILE=${DATABASE_URL_FILE:-" in (DEPLOY / "harborguard.sh").read_text()
    assert "\nEnvironmentFile=/etc/harborguard/prune\n" in unit


def test_units_nginx_and_compose_use_the_same_socket() -> None:
    path = "/run/harborguard/harborguard.sock"
    assert f"ListenStream={path}\n" in (DEPLOY / "harborguard.socket").read_text()
    assert NGINX.count(f"server unix:{path} ") == 3
    assert f"HARBORGUARD_BIND: unix:{path}," in COMPOSE
    # The group of www-data in Debian, also in the image of nginx.
    assert '    user: "10001:33"\n' in COMPOSE


def test_image_contains_only_the_files_it_needs() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {name for line in copied for name in line.split()}
    allowed = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert sources == allowed == {
        "requirements.lock", "app.py", "wsgi.py", "harborguard", "sql", "deploy/gunicorn.conf.py",
    }  # fmt: skip
    assert all((ROOT / name).exists() for name in sources)
    assert "embedded" not in (ROOT / "requirements.lock").read_text()
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_image_is_built_in_stages_and_runs_as_a_numeric_user() -> None:
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) == 2
    last = DOCKERFILE.split("\nFROM ")[-1]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "pip install" not in last
    assert "--require-hashes" in DOCKERFILE
    assert re.search(r"^HEALTHCHECK .*\n.*/api/health", last, re.MULTILINE)


def test_compose_file_lists_its_services_and_mounts_secrets_as_files() -> None:
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
def test_file_contains_no_database_password(path: Path) -> None:
    if path.is_file():
        assert not re.search(r"postgres(ql)?://\w+:\w+@", path.read_text())
