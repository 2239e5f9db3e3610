"""The documents are true: every setting, code, parameter, command and file they name is there."""

import dataclasses
import re
from pathlib import Path

import click
import pytest

from harborguard.api.errors import STATUSES
from harborguard.api.schemas import SORTS, ListImagesQuery
from harborguard.cli import main
from harborguard.config import Config

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]


def section(title: str) -> str:
    """A chapter of the README."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_it_works() -> None:
    """The two commands are on the first screen, and the Makefile has them."""
    first_screen = "\n".join(README.splitlines()[:24])
    makefile = (ROOT / "Makefile").read_text()
    for verb in ("run", "test"):
        assert f"$ make {verb}" in first_screen
        assert re.search(rf"^{verb}:.*## ", makefile, re.MULTILINE)


def test_every_setting_is_in_the_table_and_nothing_else() -> None:
    source = (ROOT / "harborguard" / "config.py").read_text()
    read = set(re.findall(r"env\.\w+\(\s*\"(\w+)\"", source)) - {"SUDO_UID"}
    told = set(re.findall(r"^\| `(\w+)` \|", section("Configuration"), re.MULTILINE))
    assert told == read
    assert len(read) + 1 == len(dataclasses.fields(Config))


@pytest.mark.parametrize(
    ("variable", "default"),
    [
        ("PORT", Config.port),
        ("HARBORGUARD_WORKERS", Config.workers),
        ("HARBORGUARD_THREADS", Config.threads),
        ("HARBORGUARD_POOL_TIMEOUT", Config.pool_timeout),
        ("HARBORGUARD_STATEMENT_TIMEOUT_MS", Config.statement_timeout_ms),
        ("HARBORGUARD_MAX_UPLOAD_BYTES", Config.max_upload_bytes),
        ("HARBORGUARD_UPLOADS_PER_MINUTE", Config.uploads_per_minute),
    ],
)
def test_every_default_is_told_as_it_is(variable: str, default: float) -> None:
    assert f"| `{variable}` | {default:.8g} |" in README


def test_every_error_code_is_in_the_table_with_its_status() -> None:
    told = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", section("Errors"), re.MULTILINE)
    assert {code: int(status) for code, status in told} == STATUSES


def test_every_parameter_of_the_list_is_in_the_table() -> None:
    told = re.findall(r"^\| `(\w+)` \|", section("The API"), re.MULTILINE)
    fields = ListImagesQuery().load_fields
    assert told == [field.data_key or name for name, field in fields.items()]
    for sort in SORTS:
        assert f"`{sort.partition(':')[0]}`" in section("The API")


def commands(command: click.Command, path: str) -> list[str]:
    """All commands that do something, by their whole names."""
    if not isinstance(command, click.Group):
        return [path]
    return [
        found
        for name, child in command.commands.items()
        for found in commands(child, f"{path} {name}")
    ]


def test_every_command_is_in_the_table() -> None:
    table = section("The command line")
    for name in commands(main, "harborguard"):
        assert f"`{name}" in table


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_is_there(path: Path) -> None:
    text = path.read_text()
    named = set(re.findall(r"`((?:harborguard|sql|tests|deploy|docs)/[\w./-]+)`", text))
    named |= set(re.findall(r"\]\((?!http)([\w./-]+)\)", text))
    missing = {
        name for name in named if not (ROOT / name).exists() and not (path.parent / name).exists()
    }
    assert not missing


@pytest.mark.parametrize("name", re.findall(r"`(test_\w+(?:\.py)?)`", ARCHITECTURE))
def test_every_test_that_guards_an_invariant_is_there(name: str) -> None:
    if name.endswith(".py"):
        assert list((ROOT / "tests").rglob(name))
        return
    assert any(f"def {name}(" in path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))


def test_the_architecture_is_short() -> None:
    assert len(ARCHITECTURE.splitlines()) < 200
