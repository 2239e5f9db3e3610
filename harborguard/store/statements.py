"""The fixed statements of sql/queries and the migrations, by file name; read once at import."""

from pathlib import Path
from typing import LiteralString, cast

SQL_DIRECTORY = Path(__file__).parents[2] / "sql"


def _read(path: Path) -> LiteralString:
    # The only cast to LiteralString: these files are part of the program.
    return cast(LiteralString, path.read_text(encoding="utf-8"))


STATEMENTS: dict[str, LiteralString] = {
    path.stem: _read(path) for path in sorted((SQL_DIRECTORY / "queries").glob("*.sql"))
}
MIGRATIONS: dict[str, LiteralString] = {
    path.stem: _read(path) for path in sorted((SQL_DIRECTORY / "migrations").glob("*.sql"))
}
