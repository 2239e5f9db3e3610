"""Every file of sql/queries is used, every used name exists, and PostgreSQL parses each file."""

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
# PREPARE does not accept this one.
UTILITIES = {"vacuum_images"}
QUERIES = sorted(STATEMENTS.keys() - set(COPIES) - UTILITIES)
PLACEHOLDER = re.compile(r"%\((\w+)\)s")


@pytest.fixture(scope="module")
def conn(config: Config) -> Iterator[Connection]:
    """Yield one connection for all tests; they change no rows."""
    with connect(config) as conn:
        yield conn


def used_names() -> Iterator[str]:
    """Yield each name in `STATEMENTS["name"]`, and in the store each text that is a name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Subscript(ast.Name("STATEMENTS"), ast.Constant(str(name))):
                    yield name
                case ast.Constant(str(name)) if name in STATEMENTS and "store" in path.parts:
                    yield name


def as_prepared(text: str) -> str:
    """Return the statement with numbered parameters, as psycopg sends it."""
    names = list(dict.fromkeys(PLACEHOLDER.findall(text)))
    numbered = PLACEHOLDER.sub(lambda match: f"${names.index(match[1]) + 1}", text)
    assert "%" not in numbered.replace("%%", "")
    return numbered.replace("%%", "%")


def test_statements_are_the_files_and_all_are_used() -> None:
    used = set(used_names())
    assert used == set(STATEMENTS)
    assert set(STATEMENTS) == {path.stem for path in (SQL_DIRECTORY / "queries").iterdir()}
    assert set(MIGRATIONS) == {path.stem for path in (SQL_DIRECTORY / "migrations").iterdir()}


@pytest.mark.parametrize("name", QUERIES)
def test_query_is_accepted_by_prepare(conn: Connection, name: str) -> None:
    conn.execute(f"PREPARE {name} AS {as_prepared(STATEMENTS[name])}")  # pyright: ignore


@pytest.mark.parametrize("name", COPIES)
def test_copy_is_accepted(conn: Connection, name: str) -> None:
    with conn.cursor() as cursor, cursor.copy(STATEMENTS[name]):
        pass


def test_prepare_with_unknown_column_raises(conn: Connection) -> None:
    with pytest.raises(psycopg.errors.UndefinedColumn):
        conn.execute("PREPARE a_query AS SELECT nothing FROM images WHERE id = $1")


@pytest.mark.parametrize("name", sorted([*STATEMENTS, *MIGRATIONS]))
def test_sql_file_follows_the_layout_rules(name: str) -> None:
    text = {**STATEMENTS, **MIGRATIONS}[name]
    assert text.startswith("-- ")
    assert text.endswith("\n")
    assert not re.search(r"[{}\t]| $|\n\n\n", text, re.MULTILINE)
    assert re.fullmatch(r"(\d{4}_)?[a-z_]+", name)


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_query_file_contains_one_statement(name: str) -> None:
    assert ";" not in re.sub(r"--.*", "", STATEMENTS[name])
