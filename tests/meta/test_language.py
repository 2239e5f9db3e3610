"""Words that the project's texts avoid, and the width of Markdown lines."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIRECTORIES = ["harborguard", "sql", "deploy", "docs", "tests", ".ci"]
TOP_LEVEL = ["app.py", "wsgi.py", "Makefile", "pyproject.toml", ".gitignore", ".dockerignore"]
SKIPPED = {Path(__file__), ROOT / "docs" / "openapi.json", ROOT / "docs" / "images" / "page.png"}
MAX_COLUMNS = 100

BANNED = [
    *["told", "untold", "whoever", "meal", "goodbye", "knocked", "deaf", "patience", "impatient"],
    # An account or a user may have this name, but only in quotation marks.
    '(?<!")nobody(?!["@])',
    *["strangers?", "anew", "answers? with", "in vain", "is over", "of its own"],
    *["in the field's words", "hangs? on", "who is asking"],
]


def compile_words(words: list[str]) -> re.Pattern[str]:
    # Words are separated by underscores too, and a phrase may continue on the next comment line.
    phrases = [word.replace(" ", r"[\s_#*-]+") for word in words]
    return re.compile(rf"(?<![a-z])(?:{'|'.join(phrases)})(?![a-z])", re.IGNORECASE)


BANNED_WORDS = compile_words(BANNED)


def find_banned_words(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the text of each banned word."""
    for match in BANNED_WORDS.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[0]


def find_long_lines(text: str) -> Iterator[tuple[int, int]]:
    """Yield the number and the width of each line that is too long."""
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > MAX_COLUMNS:
            yield number, len(line)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def find_texts() -> Iterator[Path]:
    yield from (ROOT / name for name in TOP_LEVEL)
    yield from sorted(ROOT.glob("*.md"))
    for directory in DIRECTORIES:
        for path in sorted((ROOT / directory).rglob("*")):
            hidden = set(path.parts) & {"__pycache__", "secrets", "artifacts"}
            if path.is_file() and not hidden and path not in SKIPPED:
                yield path


TEXTS = list(find_texts())


def test_texts_contain_no_banned_word() -> None:
    found = [
        f"{relative(path)}:{line}: {word}"
        for path in TEXTS
        for line, word in find_banned_words(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_markdown_lines_fit_into_100_columns() -> None:
    found = [
        f"{relative(path)}:{line}: {width} columns"
        for path in TEXTS
        if path.suffix == ".md"
        for line, width in find_long_lines(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_texts_include_every_kind_of_file() -> None:
    names = {path.name for path in TEXTS}
    assert names > {"README.md", "Dockerfile", "compose.yaml", "nginx.conf", "run", "schema.sql"}
    assert names > {"harborguard.service", "harborguard.socket", "sensor.sh", "app.py"}
    assert "openapi.json" not in names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("as the header told", [(1, "told")]),
        ("def test_caller_is_told() -> None:", [(1, "told")]),
        ("fine\nToLd again", [(2, "ToLd")]),
        ("it answers with 404", [(1, "answers with")]),
        ("# it ends in\n# vain", [(1, "in\n# vain")]),
        ("def who_is_asking():", [(1, "who_is_asking")]),
        ("oatmeal, metold, tolder", []),
        ("it returns 404", []),
        ("nobody knows", [(1, "nobody")]),
        ('setpriv("nobody")', []),
    ],
)
def test_banned_word_is_found_with_its_line(text: str, expected: list[tuple[int, str]]) -> None:
    assert list(find_banned_words(text)) == expected


def test_long_line_is_found_with_its_width() -> None:
    table_row = f"| {'x' * 97} |"
    text = f"{'x' * 100}\n```\n{'x' * 120}\n```\n{table_row}\n"
    assert list(find_long_lines(text)) == [(3, 120), (5, 101)]
