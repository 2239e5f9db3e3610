"""The rule of the rooms, where import-linter cannot look: single files, words, sizes."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = sorted((ROOT / "harborguard").rglob("*.py"))
MODULES = [*PACKAGE, ROOT / "app.py", ROOT / "wsgi.py"]
TOP_LEVEL = {
    "app.py", "wsgi.py", "pyproject.toml", "Makefile", "sql", "harborguard", "tests", "README.md",
    "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "deploy", "docs", "requirements.lock",
    "requirements-local.lock", "requirements-dev.lock",
}  # fmt: skip
STATEMENT = re.compile(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM)\b")
SQL_ROOMS = ("harborguard/store/", "harborguard/dev/embedded.py")


def name_of(path: Path) -> str:
    """A file's place in the project."""
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    """The functions and methods of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


def imports(path: Path) -> set[str]:
    """The modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_it_works() -> None:
    """The top level holds what it should and nothing else."""
    assert {p.name for p in ROOT.iterdir() if not p.name.startswith(".")} - TOP_LEVEL == {
        *(name for name in ("__pycache__", "harborguard_images.egg-info") if (ROOT / name).exists())
    }


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_a_file_of_the_package_has_one_thing_to_hold(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 250
    assert ast.get_docstring(ast.parse(text)), "a module says what it is for"
    assert path.stem not in {"utils", "helpers", "common", "misc", "core", "services_"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_function_is_long(path: Path) -> None:
    for function in functions(path):
        assert function.end_lineno is not None
        assert function.end_lineno - function.lineno < 50, function.name


def test_the_median_function_is_about_ten_lines() -> None:
    lengths = sorted(
        function.end_lineno - function.lineno + 1
        for path in MODULES
        for function in functions(path)
        if function.end_lineno
    )
    assert lengths[len(lengths) // 2] <= 10
    assert lengths[len(lengths) * 9 // 10] <= 25


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_nothing_imports_the_application(path: Path) -> None:
    assert not imports(path) & {"app", "wsgi"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_config_reads_the_environment(path: Path) -> None:
    reads = re.search(r"os\.environ(?!\[[^]]+\] = )|getenv", path.read_text())
    assert not reads or path.name == "config.py"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_one_file_casts_to_literal_string(path: Path) -> None:
    casts = "cast(LiteralString" in path.read_text()
    assert casts == (name_of(path) == "harborguard/store/statements.py")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_store_speaks_sql(path: Path) -> None:
    if name_of(path).startswith(SQL_ROOMS):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not STATEMENT.search(node.value), node.value


@pytest.mark.parametrize("path", [ROOT / "app.py", ROOT / "wsgi.py"], ids=name_of)
def test_the_doors_hold_no_routes_and_no_defaults(path: Path) -> None:
    assert not re.search(r"\.route\(|@\w+\.(get|post|before_request)", path.read_text())


def test_wsgi_defines_nothing() -> None:
    assert not list(functions(ROOT / "wsgi.py"))
    assert len((ROOT / "wsgi.py").read_text().splitlines()) <= 15


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_long_signature_names_its_arguments(path: Path) -> None:
    for function in functions(path):
        arguments = [arg for arg in function.args.args if arg.arg not in {"self", "cls"}]
        assert len(arguments) <= 4, function.name
        assert function.returns is not None, function.name
        for argument in arguments:
            annotation = argument.annotation
            is_bool = isinstance(annotation, ast.Name) and annotation.id == "bool"
            assert not is_bool, f"{function.name}: a boolean is named where it is given"
