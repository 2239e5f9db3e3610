"""The image of deploy/Dockerfile and the stack of deploy/compose.yaml, in a container engine.

Only `make container-test` runs these tests. The services start one by one, because podman 4 cannot
wait for a healthy container.
"""

import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import pytest

from tests.support.reports import envelope
from tests.support.service import ROOT, free_port
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(
        "HARBORGUARD_TEST_CONTAINERS" not in os.environ, reason="run by make container-test"
    ),
    pytest.mark.timeout(900),
]
MAX_SIZE = 160 << 20  # bytes that the image adds to its base
COPIED = ("app.py", "wsgi.py", "requirements.lock", "harborguard", "sql", "deploy", ".dockerignore")
PASSWORD = token_hex(24)


def find_engine() -> tuple[str, list[str]]:
    """Return the engine and the command of Compose; skip the test if there is none."""
    for engine, compose in (
        ("docker", ["docker", "compose"]),
        ("podman", ["podman-compose"]),
        ("podman", ["podman", "compose"]),
    ):
        commands = ([engine, "info"], [*compose, "version"])
        if all(shutil.which(command[0]) and succeeds(*command) for command in commands):
            return engine, compose
    pytest.skip("needs docker with Compose, or podman with podman-compose")


def succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


@dataclass
class Stack:
    """The compose stack of a copy of the project; `start_seconds` is the first start's time."""

    engine: str
    compose: list[str]
    directory: Path
    port: int
    start_seconds: float = 0

    def run(self, *command: str) -> str:
        """Run a program in the directory of the stack; return its output or raise with it."""
        done = subprocess.run(
            command,
            cwd=self.directory / "deploy",
            env={**os.environ, "HTTP_PORT": str(self.port)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def build(self) -> None:
        """Build the image, on another base if PYTHON_IMAGE names one."""
        options = ["--format", "docker"] if self.engine == "podman" else []
        if base := os.environ.get("PYTHON_IMAGE"):
            options += ["--build-arg", f"PYTHON={base}"]
        if "BUILD_NETWORK" in os.environ:
            options += ["--network", os.environ["BUILD_NETWORK"]]
        file = ["--file", "Dockerfile", "--tag", "harborguard-images", ".."]
        self.run(self.engine, "build", *options, *file)

    def command(self, *arguments: str) -> str:
        """Run a command of Compose."""
        return self.run(*self.compose, "--project-name", "harborguard-test", *arguments)

    def start(self) -> None:
        """Start the services in the order of their dependencies, with a migrated schema."""
        began = time.monotonic()
        self.command("up", "--detach", "--no-deps", "database")
        ready = ["database", "pg_isready", "--quiet", "--username", "harborguard"]
        wait_until(lambda: succeeds(self.engine, "exec", self.name(ready[0]), *ready[1:]))
        self.migrate()
        self.command("up", "--detach", "--no-deps", "service", "nginx")
        self.await_ready()
        self.start_seconds = time.monotonic() - began

    def migrate(self) -> None:
        """Run the service `migrate` to its end."""
        self.command("run", "--rm", "--no-deps", "migrate")

    def name(self, service: str) -> str:
        """Return the name of a service's container."""
        names = self.run(self.engine, "ps", "--all", "--format", "{{.Names}}").split()
        [name] = [each for each in names if re.fullmatch(rf"harborguard-test.{service}.1", each)]
        return name

    def exec(self, *command: str) -> str:
        """Run a program in the container of the service."""
        return self.run(self.engine, "exec", self.name("service"), *command)

    def request(self, path: str, key: str = "", body: bytes | None = None) -> tuple[int, bytes]:
        """Send a request through nginx; return status and body, or 0 without a response."""
        headers = {"X-API-Key": key, "Content-Type": "application/json"}
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def await_ready(self) -> None:
        """Wait until the service responds through nginx and has its database."""
        wait_until(lambda: self.request("/api/ready")[0] == 200, timeout=60)

    def list_names(self, key: str) -> list[str]:
        """Return the names in the list, through nginx."""
        status, body = self.request("/api/images?sort=name:asc", key)
        assert status == 200, body
        return [row["name"] for row in json.loads(body)["data"]]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Build the image and run the stack from a copy of the project with new secrets."""
    engine, compose = find_engine()
    directory = tmp_path_factory.mktemp("project")
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, directory / name)
    secrets = directory / "deploy" / "secrets"
    secrets.mkdir(mode=0o700)
    (secrets / "database-password").write_text(PASSWORD)
    (secrets / "database-url").write_text(
        f"postgresql://harborguard:{PASSWORD}@database/harborguard"
    )
    stack = Stack(engine, compose, directory, free_port())
    stack.build()
    try:
        stack.start()
        yield stack
    finally:
        stack.command("down", "--volumes")


@pytest.fixture(scope="module")
def key(stack: Stack) -> str:
    """Create an organization and a key as operations.md does."""
    stack.exec("harborguard", "org", "create", "acme")
    created = stack.exec(
        "harborguard", "key", "create", "pipeline", "--org", "acme", "--role", "ci"
    )
    [key] = re.findall(r"hg_ak_\w+", created)
    return key


def upload(stack: Stack, key: str, name: str) -> None:
    """Upload a report through nginx."""
    body = envelope(f"ghcr.io/acme/{name}:1", (1,), scan_id=name)
    status, response = stack.request("/api/scans/upload", key, body)
    assert status == 201, response


def test_stack_keeps_uploads_over_restarts_and_an_upgrade(stack: Stack, key: str) -> None:
    before = stack.list_names(key)
    upload(stack, key, "first")
    assert stack.list_names(key) == [*before, "ghcr.io/acme/first"]
    for service in ("service", "database"):
        stack.run(stack.engine, "restart", stack.name(service))
        stack.await_ready()
        assert stack.list_names(key) == [*before, "ghcr.io/acme/first"]

    image = stack.run(stack.engine, "inspect", "--format", "{{.Image}}", stack.name("service"))
    with (stack.directory / "wsgi.py").open("a") as file:
        file.write("# a newer release\n")
    stack.build()
    stack.migrate()
    stack.command("up", "--detach", "--no-deps", "--force-recreate", "service", "nginx")
    stack.await_ready()
    upload(stack, key, "second")
    assert stack.list_names(key) == [*before, "ghcr.io/acme/first", "ghcr.io/acme/second"]
    newer = stack.run(stack.engine, "inspect", "--format", "{{.Image}}", stack.name("service"))
    assert newer != image


def test_service_runs_as_its_user_on_a_read_only_file_system(stack: Stack) -> None:
    assert stack.exec("id", "-u").strip() == "10001"
    writable = stack.exec(
        "sh", "-c", "for d in / /srv/harborguard /venv /etc /tmp /run/harborguard; do"
        " touch $d/x 2>/dev/null && echo $d && rm $d/x; done; true",
    )  # fmt: skip
    assert writable.split() == ["/tmp", "/run/harborguard"]
    capabilities = stack.exec("sh", "-c", "grep CapEff /proc/1/status")
    assert int(capabilities.split()[1], 16) == 0


def test_containers_and_image_show_no_secret(stack: Stack, key: str) -> None:
    names = [stack.name(service) for service in ("database", "service", "nginx")]
    shown = stack.run(stack.engine, "inspect", *names)
    shown += stack.run(stack.engine, "inspect", "harborguard-images")
    shown += stack.run(stack.engine, "history", "--no-trunc", "harborguard-images")
    assert "harborguard" in shown
    assert PASSWORD not in shown
    assert key not in shown


def test_health_check_of_the_image_succeeds(stack: Stack) -> None:
    if stack.engine == "podman":
        # Without systemd, podman runs no check by itself.
        assert succeeds("podman", "healthcheck", "run", stack.name("service"))
        return
    state = ["inspect", "--format", "{{.State.Health.Status}}", stack.name("service")]
    wait_until(lambda: stack.run("docker", *state).strip() == "healthy", timeout=60)


def test_image_adds_at_most_160_mb_to_its_base(stack: Stack) -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    [pinned] = re.findall(r"^ARG PYTHON=(\S+)$", dockerfile, re.MULTILINE)
    base = os.environ.get("PYTHON_IMAGE") or pinned
    sizes = [
        int(stack.run(stack.engine, "image", "inspect", "--format", "{{.Size}}", name))
        for name in ("harborguard-images", base)
    ]
    added = sizes[0] - sizes[1]
    print(f"{added / 1e6:.0f} MB over the base, started in {stack.start_seconds:.1f} s")
    assert 0 < added <= MAX_SIZE
