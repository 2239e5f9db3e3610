"""Rules of the module structure that neither import-linter nor ruff can check."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = sorted((ROOT / "harborguard").rglob("*.py"))
ENTRY_POINTS = [ROOT / "app.py", ROOT / "wsgi.py"]
DEPLOY = sorted((ROOT / "deploy").glob("*.py"))
MODULES = [*PACKAGE, *ENTRY_POINTS, *DEPLOY]
TOP_LEVEL = {
    "app.py", "wsgi.py", "pyproject.toml", "Makefile", "harborguard", "sql", "deploy", "docs",
    "tests", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md",
    "LICENSE", "requirements.lock", "requirements-local.lock", "requirements-dev.lock",
    "requirements-lowest.lock", "requirements-mutants.lock",
}  # fmt: skip
GENERATED = {"__pycache__", "harborguard_images.egg-info"}
STATEMENT = re.compile(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM)\b")
SQL_MODULES = ("harborguard/store/", "harborguard/dev/embedded.py")
DEVELOPMENT = "harborguard.dev"


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Yield the full names of all modules and members that a syntax tree imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_development(tree: ast.AST) -> bool:
    return any(f"{name}.".startswith(f"{DEVELOPMENT}.") for name in imported_modules(tree))


def test_top_level_holds_only_known_files() -> None:
    names = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert names - TOP_LEVEL - GENERATED == set()


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_module_has_no_catch_all_name(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "common", "misc", "core"}


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_package_does_not_import_the_application(path: Path) -> None:
    roots = {name.partition(".")[0] for name in imported_modules(parse(path))}
    assert not roots & {"app", "wsgi"}


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_only_config_reads_the_environment(path: Path) -> None:
    reads = re.search(r"os\.environ(?!\[[^]]+\] = )|getenv", path.read_text(encoding="utf-8"))
    assert not reads or relative(path) == "harborguard/config.py"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_only_statements_casts_to_literal_string(path: Path) -> None:
    casts = "cast(LiteralString" in path.read_text(encoding="utf-8")
    assert casts == (relative(path) == "harborguard/store/statements.py")


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_only_the_store_contains_sql(path: Path) -> None:
    if relative(path).startswith(SQL_MODULES):
        return
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not STATEMENT.search(node.value), node.value


@pytest.mark.parametrize("path", ENTRY_POINTS, ids=relative)
def test_entry_point_defines_no_routes(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not re.search(r"\.route\(|@\w+\.(get|post|before_request)", source)


@pytest.mark.parametrize("name", ["wsgi.py", "deploy/gunicorn.conf.py"])
def test_configuration_file_defines_no_functions_or_classes(name: str) -> None:
    nodes = ast.walk(parse(ROOT / name))
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    assert not [node.name for node in nodes if isinstance(node, definitions)]


# -- development code -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_only_database_of_cli_and_local_server_import_development_code(path: Path) -> None:
    allowed = ("harborguard/dev/", "harborguard/cli/database.py", "deploy/gunicorn.local.conf.py")
    assert relative(path).startswith(allowed) or not imports_development(parse(path))


def test_cli_imports_development_code_only_inside_functions() -> None:
    tree = parse(ROOT / "harborguard" / "cli" / "database.py")
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and id(node) not in inside:
            assert not imports_development(node)


def test_production_imports_load_no_development_code() -> None:
    program = "import sys, app, harborguard.cli; print(*sys.modules, sep='\\n')"
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    loaded = result.stdout.splitlines()
    assert "harborguard.cli" in loaded
    assert not [name for name in loaded if name.startswith(DEVELOPMENT)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from harborguard.dev.local import embedded_database", True),
        ("from harborguard.dev import demo", True),
        ("from harborguard import dev", True),
        ("import harborguard.dev", True),
        ("from harborguard.developers import x", False),
        ("from harborguard.config import Config", False),
    ],
)
def test_import_of_development_code_is_recognized(source: str, expected: bool) -> None:
    assert imports_development(ast.parse(source)) == expected
