"""sql/queries: every file is used, every name exists, and PostgreSQL understands each."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import harborguard
from harborguard.config import Config
from harborguard.store.connection import Connection, connect
from harborguard.store.statements import MIGRATIONS, SQL_DIRECTORY, STATEMENTS

PACKAGE = Path(harborguard.__file__).parent
COPIES = sorted(name for name, text in STATEMENTS.items() if "\nCOPY " in text)
QUERIES = sorted(STATEMENTS.keys() - set(COPIES))
PLACEHOLDER = re.compile(r"%\((\w+)\)s")


@pytest.fixture(scope="module")
def conn(config: Config) -> Iterator[Connection]:
    """One for all: nothing is run here, so nothing need be emptied."""
    with connect(config) as conn:
        yield conn


def names_used() -> Iterator[str]:
    """STATEMENTS["name"] anywhere in the package; and what is looked up by a parameter."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Subscript(ast.Name("STATEMENTS"), ast.Constant(str(name))):
                    yield name
                case ast.Call(ast.Name("_one"), [_, ast.Constant(str(name)), *_]):
                    yield name


def as_prepared(text: str) -> str:
    """The statement with numbered parameters, as the driver sends it."""
    names = list(dict.fromkeys(PLACEHOLDER.findall(text)))
    numbered = PLACEHOLDER.sub(lambda match: f"${names.index(match[1]) + 1}", text)
    assert "%" not in numbered.replace("%%", "")
    return numbered.replace("%%", "%")


def test_it_works() -> None:
    used = set(names_used())
    assert used == set(STATEMENTS)
    assert set(STATEMENTS) == {path.stem for path in (SQL_DIRECTORY / "queries").iterdir()}
    assert set(MIGRATIONS) == {path.stem for path in (SQL_DIRECTORY / "migrations").iterdir()}


@pytest.mark.parametrize("name", QUERIES)
def test_query_can_be_prepared(conn: Connection, name: str) -> None:
    conn.execute(f"PREPARE {name} AS {as_prepared(STATEMENTS[name])}")  # pyright: ignore


@pytest.mark.parametrize("name", COPIES)
def test_copy_can_begin(conn: Connection, name: str) -> None:
    with conn.cursor() as cursor, cursor.copy(STATEMENTS[name]):
        pass


def test_a_mistake_would_be_found(conn: Connection) -> None:
    with pytest.raises(psycopg.errors.UndefinedColumn):
        conn.execute("PREPARE a_query AS SELECT nothing FROM images WHERE id = $1")


@pytest.mark.parametrize("name", sorted([*STATEMENTS, *MIGRATIONS]))
def test_file_is_in_the_style(name: str) -> None:
    text = {**STATEMENTS, **MIGRATIONS}[name]
    assert text.startswith("-- ")
    assert text.endswith("\n")
    assert not re.search(r"[{}\t]| $|\n\n\n", text, re.MULTILINE)
    assert re.fullmatch(r"(\d{4}_)?[a-z_]+", name)


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_file_is_one_statement(name: str) -> None:
    assert ";" not in re.sub(r"--.*", "", STATEMENTS[name])
