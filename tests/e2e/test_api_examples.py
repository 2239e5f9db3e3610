"""The examples of docs/api.md: every block runs against a service and prints what follows it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from harborguard.model import Role
from harborguard.store.connection import Connection
from tests.support.fault_injection import require_program
from tests.support.recording import ingest
from tests.support.reports import SCANNED_AT, envelope, manifest
from tests.support.service import ROOT, free_port, serving
from tests.support.tenants import Tenant, Tenants

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The ids of the document stand for any others.
ANY_ID = re.compile(r"\b(img|scan)-[0-9a-f]{16}\b")


@dataclass(frozen=True)
class Example:
    """A block of the document: its line, its language, its text and the output that follows."""

    line: int
    language: str
    code: str
    output: str


def read_examples() -> list[Example]:
    """Return the blocks of docs/api.md that are programs; the others must be outputs."""
    text = (ROOT / "docs" / "api.md").read_text()
    blocks = [*BLOCK.finditer(text)]
    assert text.count("```") == 2 * len(blocks)
    examples = []
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        language, code = block.groups()
        if language == "text":
            continue
        assert language in {"sh", "python"}, code
        has_output = following is not None and following[1] == "text"
        line = text.count("\n", 0, block.start()) + 1
        examples.append(Example(line, language, code, following[2] if has_output else ""))
    return examples


CLIENT, *EXAMPLES = read_examples()


def find_program(language: str, text: str) -> str:
    """Return the code of the only example in a language that contains a text."""
    [code] = [each.code for each in EXAMPLES if each.language == language and text in each.code]
    return code


@dataclass(frozen=True)
class Runner:
    """Runs examples in a directory, with the address of a service and a key."""

    directory: Path
    url: str
    key: str

    def __call__(
        self, language: str, code: str, *arguments: str, url: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a program and return its result."""
        if language == "python":
            code = f"{CLIENT.code}\n{code}"
        command = {"sh": ["sh", "-eu"], "python": [sys.executable]}[language]
        script = self.directory / f"example.{language}"
        script.write_text(code)
        return subprocess.run(
            [*command, script.name, *arguments],
            cwd=self.directory,
            env={"PATH": os.environ["PATH"], "URL": url or self.url, "KEY": self.key},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def acme(tenants: Tenants) -> Tenant:
    """Record the three images of the document."""
    acme = tenants.acme
    web = envelope("ghcr.io/acme/web:2.0", (1,), scan_id="web", digest=manifest("b"))
    web = web.replace(b'"openssl"', b'"log4j-core"').replace(b'"3.0.2"', b'"2.15.0"')
    web = re.sub(rb'"cveId": "[^"]+"', b'"cveId": "CVE-2021-44228"', web)
    api = envelope("ghcr.io/acme/api:1.4", (0, 4, 19, 27), scan_id="api", digest=manifest("a"))
    nginx = envelope("nginx:1.27", (), scan_id="nginx")
    for report in (api, web, nginx):
        ingest(acme.conn, acme.organization_id, report)
    return acme


@pytest.fixture
def runner(database_url: str, acme: Tenant, tmp_path: Path) -> Iterator[Runner]:
    """Run a service for the examples, with a key that may do everything."""
    require_program("curl")
    require_program("jq")
    shutil.copy(ROOT / "docs" / "samples" / "trivy-report.json", tmp_path / "report.json")
    with serving(DATABASE_URL=database_url) as service:
        yield Runner(tmp_path, f"http://127.0.0.1:{service.port}", acme.add_key(Role.OWNER))


def test_every_example_prints_what_the_document_says(runner: Runner) -> None:
    for example in EXAMPLES:
        result = runner(example.language, example.code)
        where = f"docs/api.md:{example.line}: {result.stderr}"
        expected = ANY_ID.sub(r"\1-ID", example.output)
        assert ANY_ID.sub(r"\1-ID", result.stdout) == expected, where
        assert (result.returncode, result.stderr) == (0, ""), where


def test_python_examples_have_at_most_20_lines() -> None:
    assert len(EXAMPLES) > 20
    for example in EXAMPLES:
        assert example.language == "sh" or len(example.code.splitlines()) <= 20, example.line


@pytest.mark.parametrize("language", ["sh", "python"])
def test_gate_lets_only_scanned_images_with_a_good_grade_pass(
    runner: Runner, acme: Tenant, language: str
) -> None:
    later = SCANNED_AT + timedelta(days=1)
    failed = envelope("ghcr.io/acme/api:1.5", scan_id="failed", status="FAILED", finished_at=later)
    ingest(acme.conn, acme.organization_id, failed)
    gate = find_program(language, "not scanned")
    verdicts = {
        "nginx:1.27": "A",
        "ghcr.io/acme/api:1.4": "B",
        f"ghcr.io/acme/api@{manifest('a')}": "B",
        "ghcr.io/acme/web:2.0": "D",
        "ghcr.io/acme/api:1.5": "not scanned",
        "ghcr.io/acme/api:9": "Image not found.",
        "Not A Reference": "BAD_REQUEST",
    }
    for reference, verdict in verdicts.items():
        result = runner(language, gate, reference)
        assert verdict in result.stdout + result.stderr
        assert (result.returncode == 0) == (verdict in {"A", "B"}), reference
    closed = f"http://127.0.0.1:{free_port()}"
    assert runner(language, gate, "nginx:1.27", url=closed).returncode != 0


def test_shell_poller_prints_only_what_has_changed_since_its_last_run(
    runner: Runner, acme: Tenant, conn: Connection
) -> None:
    poller = find_program("sh", "images/changes?limit=200")
    assert len(runner("sh", poller).stdout.splitlines()) == 3
    assert runner("sh", poller).stdout == ""
    [(image_id,)] = conn.execute(
        "SELECT id FROM images WHERE organization_id = %s AND name LIKE '%%/web'",
        [acme.organization_id],
    ).fetchall()
    delete = f'curl -sSf -X DELETE -H "X-API-Key: $KEY" "$URL/api/images/{image_id}"'
    assert runner("sh", delete).returncode == 0
    assert runner("sh", poller).stdout == "deleted\tghcr.io/acme/web\t-\n"
    (runner.directory / "cursor").write_text("odd\n")
    broken = runner("sh", poller)
    assert (broken.returncode, broken.stdout) == (1, "")
    assert '"path":"after"' in broken.stderr
    assert (runner.directory / "cursor").read_text() == "odd\n"
    (runner.directory / "cursor").unlink()
    assert len(runner("sh", poller).stdout.splitlines()) == 3


def test_python_poller_keeps_a_copy_of_the_list(runner: Runner, acme: Tenant) -> None:
    poller = find_program("python", "images/changes")
    copy = runner.directory / "inventory.json"
    assert runner("python", poller).stdout.split()[0] == "docker.io/library/nginx"
    for number in range(450):
        acme.add_image(f"ghcr.io/acme/many/{number:03}", number % 101)
    assert len(runner("python", poller).stdout.split()) == 453
    assert runner("python", poller).stdout == runner("python", poller).stdout
    before = copy.read_text()
    copy.write_text(before.replace(before.split('"')[1], "odd"))
    assert len(runner("python", poller).stdout.split()) == 453
    assert copy.read_text() == before


def test_export_examples_replace_no_file_if_the_service_does_not_respond(runner: Runner) -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    for language in ("sh", "python"):
        result = runner(language, find_program(language, "images/export"), url=closed)
        assert result.returncode != 0
        assert not [*runner.directory.glob("images-*.csv"), *runner.directory.glob("*.ndjson")]
