"""One name for one thing: public classes, and sections of the contract."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "docs" / "contract.md"
# "contract 4", "contract 4.2"; a comment may continue on the next line.
CITATION = re.compile(r"\bcontract(?:,? sections?)?[\s#*-]+(\d+(?:\.\d+)*)\b", re.IGNORECASE)
HEADING = re.compile(r"^#{2,6} (\d+(?:\.\d+)*)\.?\s", re.MULTILINE)
DIRECTORIES = ["harborguard", "sql", "deploy", "docs", "tests"]


def find_repeated(sources: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return each public top-level class that several of the (file, source) pairs define."""
    defined_in: dict[str, list[str]] = defaultdict(list)
    for file, source in sources:
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                defined_in[node.name].append(file)
    return {name: files for name, files in defined_in.items() if len(files) > 1}


def find_citations() -> Iterator[tuple[str, str]]:
    """Yield each file that cites the contract, with the number of the section."""
    paths = [*ROOT.glob("*.md"), *ROOT.glob("*.py")]
    for directory in DIRECTORIES:
        paths += [path for path in (ROOT / directory).rglob("*") if path.is_file()]
    for path in paths:
        if path.suffix in {".py", ".sql", ".md", ".conf"} and path != Path(__file__):
            for match in CITATION.finditer(path.read_text(encoding="utf-8")):
                yield path.relative_to(ROOT).as_posix(), match[1]


def test_public_class_names_are_unique() -> None:
    paths = sorted((ROOT / "harborguard").rglob("*.py"))
    sources = [
        (path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths
    ]
    assert find_repeated(sources) == {}


def test_cited_section_of_the_contract_exists() -> None:
    citations = set(find_citations())
    assert citations
    sections = set(HEADING.findall(CONTRACT.read_text(encoding="utf-8")))
    assert {(file, number) for file, number in citations if number not in sections} == set()


def test_repeated_class_is_found() -> None:
    sources = [("a.py", "class Image: ...\nclass _Row: ..."), ("b.py", "class Image: ...")]
    assert find_repeated(sources) == {"Image": ["a.py", "b.py"]}
    assert find_repeated([sources[0], ("b.py", "class _Row: ...")]) == {}


def test_citation_and_heading_are_recognized() -> None:
    text = "see contract 4.2, (contract 5) and the contract,\n# section 6"
    assert CITATION.findall("see contract 4.2, (contract 5), contract\n# 6.1.") == [
        "4.2",
        "5",
        "6.1",
    ]
    assert CITATION.findall(text) == ["4.2", "5"]
    assert HEADING.findall("# 1\n## 4. Authentication\n### 4.2 Sessions\n## Notes 7\n") == [
        "4",
        "4.2",
    ]
