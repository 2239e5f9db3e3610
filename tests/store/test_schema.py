"""sql/schema.sql describes the same schema as the migrations."""

from collections.abc import Iterator

import pytest

from harborguard.config import Config
from harborguard.store.connection import Connection, connect
from tests.support.postgres import has_embedded, migrated_database, scratch_database
from tests.tools.schema import SCHEMA, describe, dump


@pytest.fixture
def from_file(server_url: str) -> Iterator[Connection]:
    """Yield a connection to a database created from sql/schema.sql alone."""
    with scratch_database(server_url) as url, connect(Config(database_url=url)) as conn:
        conn.execute(SCHEMA.read_bytes(), prepare=False)
        yield conn


def test_schema_file_creates_the_schema_of_the_migrations(
    from_file: Connection, conn: Connection
) -> None:
    lines = describe(from_file)
    assert lines == describe(conn)
    assert len(lines) > 100


def test_describe_after_any_change_returns_other_lines(
    from_file: Connection, conn: Connection
) -> None:
    """A less detailed description would miss one of these changes."""
    expected = describe(conn)
    for change in (
        'ALTER TABLE images ALTER latest_tag TYPE text COLLATE "default"',
        "ALTER TABLE images ALTER tag_count DROP DEFAULT",
        "ALTER TABLE images ALTER tag_count DROP NOT NULL",
        "ALTER TABLE findings DROP CONSTRAINT findings_cvss_score_check",
        "ALTER TABLE images ALTER risk_score TYPE integer",
        "DROP FUNCTION compared_scans",
        "DROP INDEX images_name_idx",
        "CREATE TABLE spare (id integer)",
    ):
        with from_file.transaction(force_rollback=True):
            from_file.execute(change)
            assert describe(from_file) != expected, change
    assert describe(from_file) == expected


@pytest.mark.skipif(not has_embedded(), reason="needs pg_dump of PostgreSQL 18 from the wheel")
def test_schema_file_equals_a_new_dump(server_url: str) -> None:
    with migrated_database(server_url) as url:
        with connect(Config(database_url=url)) as conn:
            if conn.info.server_version < 180000:
                pytest.skip(
                    "the file is written from PostgreSQL 18, which prints views differently"
                )
        assert SCHEMA.read_text(encoding="utf-8") == dump(url), "run: make schema"
