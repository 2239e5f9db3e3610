"""sql/schema.sql is what the migrations make."""

from collections.abc import Iterator

import pytest

from harborguard.config import Config
from harborguard.store.connection import Connection, connect
from tests.support.postgres import has_embedded, migrated_database, scratch_database
from tests.tools.schema import SCHEMA, describe, dump


@pytest.fixture
def loaded(server_url: str) -> Iterator[Connection]:
    """A database made from the file alone."""
    with scratch_database(server_url) as url, connect(Config(database_url=url)) as conn:
        conn.execute(SCHEMA.read_bytes(), prepare=False)
        yield conn


def test_it_works(loaded: Connection, conn: Connection) -> None:
    lines = describe(loaded)
    assert lines == describe(conn)
    assert len(lines) > 100


def test_another_schema_is_described_otherwise(loaded: Connection, conn: Connection) -> None:
    """Each of these would be missed by a description that looked less closely."""
    expected = describe(conn)
    for change in (
        'ALTER TABLE images ALTER latest_tag TYPE text COLLATE "default"',
        "ALTER TABLE images ALTER tag_count DROP DEFAULT",
        "ALTER TABLE images ALTER tag_count DROP NOT NULL",
        "ALTER TABLE findings DROP CONSTRAINT findings_cvss_score_check",
        "ALTER TABLE images ALTER risk_score TYPE integer",
        "DROP VIEW finished_scans",
        "DROP INDEX images_name_idx",
        "CREATE TABLE spare (id integer)",
    ):
        with loaded.transaction(force_rollback=True):
            loaded.execute(change)
            assert describe(loaded) != expected, change
    assert describe(loaded) == expected


@pytest.mark.skipif(not has_embedded(), reason="there is no pg_dump of the newest PostgreSQL here")
def test_the_file_is_up_to_date(server_url: str) -> None:
    with migrated_database(server_url) as url:
        assert SCHEMA.read_text(encoding="utf-8") == dump(url), "run: make schema"
