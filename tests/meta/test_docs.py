"""The documents match the code: settings, codes, parameters, commands, routes, files and links."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from app import create_app
from harborguard.api.errors import STATUSES
from harborguard.api.queries import IMAGE_SORTS, ListImagesQuery
from harborguard.cli import main
from harborguard.config import Config

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
TREES = ["harborguard", "sql", "tests", "deploy", "docs"]
PATHS = [*ROOT.glob("*.*"), *(path for tree in TREES for path in (ROOT / tree).rglob("*"))]
FILES = [f"/{path.relative_to(ROOT).as_posix()}" for path in PATHS] + [f"/{tree}" for tree in TREES]
MAKEFILE = (ROOT / "Makefile").read_text()
# Read by tests/support, tests/tools and tests/conftest.py, not by the service.
TEST_SETTINGS = {"HARBORGUARD_REPORTS", "HARBORGUARD_COOKIES"}


def read(name: str) -> str:
    """Return the text of a document."""
    return (ROOT / name).read_text()


def section(name: str, title: str) -> str:
    """Return a section of a document, with its subsections, without the heading."""
    match = re.search(rf"^(#+) {re.escape(title)}$", read(name), re.MULTILINE)
    assert match, f"{name} has no section {title}"
    rest = read(name)[match.end() :]
    return re.split(rf"^#{{1,{len(match[1])}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def first_column(text: str) -> list[str]:
    """Return the first cell of each table row that begins with code, without the backticks."""
    return re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)


def settings_in_code() -> set[str]:
    """Return the environment variables that harborguard.config reads."""
    source = read("harborguard/config.py")
    return set(re.findall(r"env\.\w+\(\s*\"(\w+)\"", source)) - {"SUDO_UID", "SUDO_USER"}


def list_commands(command: click.Command, name: str) -> Iterator[str]:
    """Yield the full name of each command below a group."""
    if not isinstance(command, click.Group):
        yield name
        return
    for child_name, child in command.commands.items():
        yield from list_commands(child, f"{name} {child_name}")


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub builds it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def list_links(path: Path) -> Iterator[str]:
    """Yield the targets of a document's links inside the repository."""
    text = path.read_text()
    yield from re.findall(r"\]\((?!http)([^)\s]+)\)", text)
    yield from re.findall(r"^\[[^]]+\]: (?!http)(\S+)$", text, re.MULTILINE)


def test_first_screen_has_the_two_commands() -> None:
    first_screen = "\n".join(read("README.md").splitlines()[:24])
    for target in ("run", "test"):
        assert f"$ make {target}" in first_screen


def test_readme_is_short() -> None:
    assert len(read("README.md").split()) <= 1100


def test_sample_report_of_the_readme_exists() -> None:
    [sample] = re.findall(r"harborguard ingest (docs/\S+)", read("README.md"))
    assert (ROOT / sample).is_file()


def test_settings_table_lists_what_config_reads() -> None:
    names = first_column(section("docs/configuration.md", "Settings"))
    assert sorted(names) == sorted(settings_in_code())
    # SUDO_UID and SUDO_USER are fields of Config but not settings: sudo sets them.
    assert len(names) + 2 == len(dataclasses.fields(Config))


@pytest.mark.parametrize(
    ("variable", "default"),
    [
        ("PORT", Config.port),
        ("HARBORGUARD_PROXIES", Config.proxies),
        ("HARBORGUARD_WORKERS", Config.workers),
        ("HARBORGUARD_THREADS", Config.threads),
        ("HARBORGUARD_POOL_TIMEOUT", Config.pool_timeout),
        ("HARBORGUARD_STATEMENT_TIMEOUT_MS", Config.statement_timeout_ms),
        ("HARBORGUARD_MAX_UPLOAD_BYTES", Config.max_upload_bytes),
        ("HARBORGUARD_NEW_SCANS_PER_MINUTE", Config.new_scans_per_minute),
        ("HARBORGUARD_REJECTIONS_PER_MINUTE", Config.rejections_per_minute),
        ("HARBORGUARD_METRICS_PORT", Config.metrics_port),
    ],
)
def test_settings_table_has_the_default(variable: str, default: float) -> None:
    assert f"| `{variable}` | {default:.8g} |" in read("docs/configuration.md")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_document_names_existing_settings_only(path: Path) -> None:
    names = set(re.findall(r"\bHARBORGUARD_[A-Z_]+\b", path.read_text()))
    names = {name for name in names if not name.startswith("HARBORGUARD_TEST_")}
    assert names <= settings_in_code() | TEST_SETTINGS


@pytest.mark.parametrize(
    ("name", "title"), [("docs/api.md", "Errors"), ("docs/contract.md", "3.1 Codes")]
)
def test_error_table_has_each_code_with_its_status(name: str, title: str) -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", section(name, title), re.MULTILINE)
    assert {code: int(status) for code, status in rows} == STATUSES


@pytest.mark.parametrize(
    ("name", "title"),
    [("docs/api.md", "Parameters of the list"), ("docs/contract.md", "1.1 Query parameters")],
)
def test_parameter_table_lists_the_query_fields_in_order(name: str, title: str) -> None:
    fields = ListImagesQuery().load_fields
    text = section(name, title)
    assert first_column(text) == [field.data_key or name for name, field in fields.items()]
    for column in {order.partition(":")[0] for order in IMAGE_SORTS}:
        assert f"`{column}`" in text


def test_command_tables_list_every_command() -> None:
    rows = [row for row in first_column(section("docs/cli.md", "Commands")) if row[0] != "-"]
    names = set(list_commands(main, "harborguard"))
    described = {name for name in names for row in rows if f"{row} ".startswith(f"{name} ")}
    assert described == names
    for row in rows:
        assert any(f"{row} ".startswith(f"{name} ") for name in names), row


@pytest.mark.parametrize("name", ["docs/api.md", "README.md"])
def test_routes_of_the_document_exist(name: str) -> None:
    rules = list(create_app(Config()).url_map.iter_rules())
    routes = {
        f"{method} {re.sub('(image|registry)_id', 'id', rule.rule).replace('scan_id', 'scanId').replace('<', '{').replace('>', '}')}"
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    documented = set(re.findall(r"`((?:DELETE|GET|POST) /[^`]*)`", read(name)))
    assert documented <= routes
    if name == "docs/api.md":
        assert routes - documented == {"GET /api/docs/{name}", "GET /page/{name}"}


def test_metrics_table_lists_the_metrics_of_the_code() -> None:
    rooms = ("harborguard/observability", "harborguard/gunicorn")
    sources = [path.read_text() for room in rooms for path in (ROOT / room).glob("*.py")]
    metrics = set(re.findall(r"\"(harborguard_\w+)\"", "\n".join(sources)))
    names = first_column(section("docs/operations.md", "Turn on metrics"))
    assert {name.removesuffix("_total") for name in names} == metrics


def test_command_table_of_contributing_lists_make_targets() -> None:
    rows = first_column(section("CONTRIBUTING.md", "Commands"))
    assert rows
    for row in rows:
        assert re.search(rf"^{row.removeprefix('make ')}:.*## ", MAKEFILE, re.MULTILINE), row


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_file_that_a_document_names_exists(path: Path) -> None:
    text = path.read_text()
    names = set(re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|sql|md|conf|toml|lock))`", text))
    names |= set(re.findall(r"`((?:harborguard|sql|tests|deploy|docs)/[\w./-]*)`", text))
    missing = {
        name
        for name in names
        if not any(file.endswith(f"/{name.removesuffix('/')}") for file in FILES)
    }
    assert not missing


def test_module_of_the_code_map_exists() -> None:
    code_map = section("ARCHITECTURE.md", "Code map")
    for part in ("", "api/", "store/"):
        title = f"`harborguard/{part}`, "
        table = code_map.split(title)[1].split("\n\n")[1]
        for row in table.splitlines()[2:]:
            for module in re.findall(r"`([^`]+)`", row.split("|")[1]):
                path = ROOT / "harborguard" / part / module
                assert path.is_dir() or path.with_suffix(".py").is_file(), module


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    for link in list_links(path):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, link


def test_invariant_of_the_architecture_has_a_test_file() -> None:
    rows = section("ARCHITECTURE.md", "Invariants and their tests").split("|---|---|")[1]
    cells = [row.split("|")[2] for row in rows.strip().splitlines()]
    assert len(cells) > 20
    for cell in cells:
        files = re.findall(r"`(tests/[\w/]+\.py)`", cell)
        assert files, cell
        for file in files:
            assert (ROOT / file).is_file(), file
