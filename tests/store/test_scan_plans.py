"""The statements that choose the scan of an image or tag read few of its 10,000 scans."""

import re
from collections.abc import Iterator
from typing import Any, LiteralString

import pytest
from psycopg import sql

from harborguard.config import Config
from harborguard.store.connection import Connection
from harborguard.store.images.details import FIND_IMAGE, LIST_TAGS
from harborguard.store.images.lookup import FIND_VERDICT
from harborguard.store.images.refresh import refresh_images
from harborguard.store.statements import STATEMENTS
from tests.support.postgres import migrated_database, pool_connection

# Four scanners scan in turn, every ten minutes. Of the tagged image, tag-0 has half of the scans;
# the other tags share the rest. The latest tag of the synced image has no scan. The scans of the
# untagged image have one digest, those of the others a hundred.
FILL: list[LiteralString] = [
    "INSERT INTO organizations (id, name) VALUES ('org-1', 'a')",
    """
    INSERT INTO registries (organization_id, id, host, name)
    VALUES ('org-1', 'reg-1', 'a.test', 'a')
    """,
    """
    WITH image AS (
        INSERT INTO images (organization_id, id, registry_id, name)
        SELECT 'org-1', image, 'reg-1', 'a.test/' || image
        FROM unnest(ARRAY['tagged', 'untagged', 'synced']) AS image
        RETURNING organization_id, name, registry_id
    )
    INSERT INTO image_names (organization_id, name, registry_id)
    SELECT *
    FROM image
    """,
    """
    INSERT INTO tags (
        organization_id, image_id, name, is_confirmed, is_synced, first_observed_at,
        last_observed_at
    )
    SELECT
        'org-1', 'tagged', 'tag-' || n, true, false,
        timestamptz '2026-01-01' - n * interval '1 day', timestamptz '2026-01-01'
    FROM generate_series(0, 49) AS n
    UNION ALL
    SELECT
        'org-1', 'synced', 'new', true, true, timestamptz '2026-02-01', timestamptz '2026-02-01'
    """,
    """
    INSERT INTO scans (
        organization_id, image_id, external_id, content_sha256, tag, digest, scanners, status,
        finished_at, critical, high, medium, low, risk_score, grade
    )
    SELECT
        'org-1', image, image || n, sha256('x'),
        CASE
            WHEN image = 'tagged' AND n % 2 = 0 THEN 'tag-0'
            WHEN image = 'tagged' THEN 'tag-' || n / 2 % 50
            WHEN image = 'synced' THEN 'old'
        END,
        'sha256:' || CASE WHEN image = 'untagged' THEN 0 ELSE n % 100 END,
        ARRAY['scanner-' || n / 2 % 4],
        CASE WHEN n % 10 = 9 THEN 'FAILED' ELSE 'SUCCESS' END,
        timestamptz '2026-01-01' - n * interval '10 minutes',
        0, 0, n % 7, 0, n % 7, 'A'
    FROM unnest(ARRAY['tagged', 'untagged', 'synced']) AS image, generate_series(1, 10000) AS n
    """,
    """
    INSERT INTO scan_findings (organization_id, scan_id, image_id, tag_key)
    SELECT DISTINCT ON (image_id, tag, scanners) organization_id, id, image_id, coalesce(tag, '')
    FROM scans
    WHERE is_finished
    ORDER BY image_id, tag, scanners, finished_at DESC
    """,
]
IMAGES = ["tagged", "untagged", "synced"]
SCANNERS = 4


STATEMENT_OF: dict[str, tuple[LiteralString, list[str]]] = {
    "refresh": (STATEMENTS["refresh_images"], ["organization_id", "image_ids"]),
    "details": (FIND_IMAGE, ["organization_id", "image_id", "registry_id", "max_rank"]),
    "tags": (LIST_TAGS, ["organization_id", "image_id", "limit", "offset"]),
    "lookup": (FIND_VERDICT, ["organization_id", "registry_id", "name", "tag", "digest"]),
    "keep": (STATEMENTS["keep_findings"], ["organization_id", "scan_id", "sha256"]),
    "remove": (
        STATEMENTS["remove_superseded_scans"],
        ["organization_id", "scan_id", "image_id"],
    ),
}


@pytest.fixture(scope="module", params=[True, False], ids=["analyzed", "planned while empty"])
def database(request: pytest.FixtureRequest, server_url: str) -> Iterator[Connection]:
    """Yield a connection to a database with three images of 10,000 scans each.

    The statements are prepared, and planned while the tables are empty. ANALYZE makes PostgreSQL
    plan them again.
    """
    with migrated_database(server_url) as url, pool_connection(Config(database_url=url)) as conn:
        conn.execute("ALTER TABLE scans SET (autovacuum_enabled = off)")
        for name, (text, names) in STATEMENT_OF.items():
            numbered = re.sub(r"%\((\w+)\)s", lambda m: f"${names.index(m[1]) + 1}", text)  # noqa: B023
            conn.execute(f"PREPARE {name} AS {numbered}".encode(), prepare=False)
        explain_scans(conn, "refresh", "org-1", ["tagged"])
        explain_scans(conn, "details", "org-1", "tagged", None, 17)
        explain_scans(conn, "tags", "org-1", "tagged", 50, 0)
        explain_scans(conn, "lookup", "org-1", None, "a.test/tagged", "tag-0", "sha256:0")
        explain_scans(conn, "keep", "org-1", "tagged1", b"x" * 32)
        explain_scans(conn, "remove", "org-1", "tagged1", "tagged")
        for statement in FILL:
            conn.execute(statement)
        if request.param:
            conn.execute("ANALYZE")
        assert sorted(refresh_images(conn, "org-1", IMAGES)) == sorted(IMAGES)
        yield conn


def explain(conn: Connection, name: str, *values: Any, table: str) -> list[Any]:
    """Execute a prepared statement with its generic plan; return the scans of a table."""
    query = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {} ({})").format(
        sql.Identifier(name), sql.SQL(", ").join(map(sql.Literal, values))
    )
    row = conn.execute(query, prepare=False).fetchone()
    assert row is not None
    pending, scans = [row[0][0]["Plan"]], []
    while pending:
        node = pending.pop()
        pending += node.get("Plans", [])
        if node.get("Relation Name") == table:
            scans.append(node)
    return scans


def explain_scans(
    conn: Connection, name: str, *values: Any, table: str = "scans"
) -> tuple[set[str], int]:
    """Execute a prepared statement with its generic plan.

    Return the indexes of a table that it uses, and the number of entries that it reads from them.
    A sequential scan is reported as the index None.
    """
    scans = explain(conn, name, *values, table=table)
    read = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in scans
    )
    return {node.get("Index Name") for node in scans}, int(read)


@pytest.mark.parametrize("image_id", IMAGES)
def test_refresh_reads_current_scans_only(database: Connection, image_id: str) -> None:
    indexes, read = explain_scans(database, "refresh", "org-1", [image_id])
    # The other index finds the scans of an image without a finished one.
    assert indexes == {"scans_pkey", "scans_image_idx"}
    assert 0 < read <= 2 * SCANNERS


@pytest.mark.parametrize("image_id", IMAGES)
def test_details_read_current_scans_only(database: Connection, image_id: str) -> None:
    indexes, read = explain_scans(database, "details", "org-1", image_id, None, 17)
    assert indexes == {"scans_pkey"}
    assert 0 < read <= SCANNERS + 1


def test_tags_read_current_scans_only(database: Connection) -> None:
    indexes, read = explain_scans(database, "tags", "org-1", "tagged", 50, 0)
    assert indexes == {"scans_pkey"}
    assert 50 <= read <= 50 * SCANNERS


@pytest.mark.parametrize("image_id", IMAGES)
@pytest.mark.parametrize("name", ["keep", "remove"])
def test_recording_compares_a_scan_with_current_scans_only(
    database: Connection, name: str, image_id: str
) -> None:
    newest = "SELECT id FROM scans WHERE image_id = %s AND is_finished ORDER BY finished_at DESC"
    row = database.execute(newest, [image_id]).fetchone()
    assert row
    last = b"x" * 32 if name == "keep" else image_id
    indexes, read = explain_scans(database, name, "org-1", row[0], last)
    assert indexes == {"scans_pkey"}
    assert 0 < read <= 2 * SCANNERS


@pytest.mark.parametrize(
    ("name", "tag", "digest", "min_read", "max_read"),
    [
        ("a.test/untagged", None, "sha256:0", 10000, 10000),
        ("a.test/tagged", "tag-1", "sha256:7", 100, 100),
        ("a.test/tagged", "tag-0", None, 1, SCANNERS),  # the digest is unknown
        ("a.test/tagged", None, "sha256:none", 0, 0),
        ("a.test/none", "tag-0", None, 0, 0),
    ],
)
def test_lookup_reads_the_scans_of_its_digest_only(
    database: Connection,
    name: str,
    tag: str | None,
    digest: str | None,
    min_read: int,
    max_read: int,
) -> None:
    values = ["org-1", None, name, tag, digest]
    indexes, read = explain_scans(database, "lookup", *values)
    assert indexes == {"scans_image_idx", "scans_pkey"}
    assert min_read <= read <= max_read
    indexes, read = explain_scans(database, "lookup", *values, table="images")
    assert indexes <= {"images_name_idx", "images_organization_id_name_key"}
    assert read <= 1
    conditions = [
        node["Index Cond"]
        for table in ("scans", "tags", "scan_findings")
        for node in explain(database, "lookup", *values, table=table)
    ]
    marks = ("image_id = ", "image_id <= ", "(id >= ")
    assert all(any(mark in each for mark in marks) for each in conditions), conditions
