"""PostgreSQL's plans for the list at 100,000 images: the scans that they use, and their rows."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from psycopg import sql

from harborguard.config import Config
from harborguard.listing import ImageCriteria, Page, Sort, SortKey
from harborguard.model import Grade, Scope
from harborguard.store.connection import Connection
from harborguard.store.counters import repair_counters
from harborguard.store.images import search
from harborguard.store.images.list import list_images
from harborguard.store.images.plan import IndexRange, Partition, SortMatches
from harborguard.store.images.query import ImageQuery, Statement
from tests.support.postgres import migrated_database, pool_connection
from tests.support.tenants import with_names

IMAGES = 100_000
# Of 103 images, 101 have the scores 0 to 100, and two were never scanned.
FILL = """
INSERT INTO images (
    organization_id, registry_id, name, created_at, risk_score, grade, scan_id, last_scanned_at,
    tag_count, latest_tag, latest_digest
)
SELECT
    CASE WHEN n %% 100 = 0 THEN 'org-2' ELSE 'org-1' END,
    'reg-1',
    'ghcr.io/acme/team-' || n %% 97 || '/service-' || n,
    timestamptz '2026-01-01' + n * interval '1 second',
    score,
    substr('ABCDD', 1 + score / 25, 1),
    CASE WHEN score >= 0 THEN 'scan-' || left(md5(n::text), 16) END,
    CASE WHEN score >= 0 THEN now() END,
    n %% 9,
    '1.2.' || n,
    'sha256:' || md5(n::text) || md5((-n)::text)
FROM generate_series(1, %(images)s) AS n
CROSS JOIN LATERAL (SELECT CASE WHEN n %% 103 <= 100 THEN n %% 103 END AS score) AS scored
"""


def add_organizations(conn: Connection) -> None:
    """Insert two organizations, each with a registry of the same id."""
    conn.execute("INSERT INTO organizations (id, name) VALUES ('org-1', 'a'), ('org-2', 'b')")
    conn.execute(
        """
        INSERT INTO registries (organization_id, id, host, name)
        VALUES ('org-1', 'reg-1', 'ghcr.io', 'ghcr.io'), ('org-2', 'reg-1', 'ghcr.io', 'g')
        """
    )


@pytest.fixture(scope="module")
def large_database(server_url: str) -> Iterator[Connection]:
    """Yield a connection to a vacuumed database: 99,000 images of org-1, 1,000 of org-2."""
    with migrated_database(server_url) as url, pool_connection(Config(database_url=url)) as conn:
        add_organizations(conn)
        conn.execute("SET statement_timeout = 0")
        # VACUUM marks a page as all-visible only if its commits were flushed to disk.
        conn.execute("SET synchronous_commit = on")
        conn.execute(with_names(FILL).encode(), {"images": IMAGES})
        for organization_id in ("org-1", "org-2"):
            repair_counters(conn, organization_id)
        conn.execute("VACUUM (ANALYZE)")
        yield conn


def explain(conn: Connection, statement: Statement) -> list[dict[str, Any]]:
    """Execute a statement with its generic plan; return all nodes of that plan."""
    prepare(conn, statement)
    return explain_prepared(conn, statement)


def prepare(conn: Connection, statement: Statement) -> None:
    """Prepare a statement and make its generic plan, which later executions reuse."""
    text, parameters = statement
    names = list(parameters)
    numbered = re.sub(r"%\((\w+)\)s", lambda match: f"${names.index(match[1]) + 1}", text)
    conn.execute(f"PREPARE listing AS {numbered}".encode(), prepare=False)
    explain_execute = sql.SQL("EXPLAIN EXECUTE listing ({})")
    conn.execute(explain_execute.format(literals(statement)), prepare=False)


def explain_prepared(conn: Connection, statement: Statement) -> list[dict[str, Any]]:
    """Execute the prepared statement once; return all nodes of its plan with their row counts."""
    explain_execute = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE listing ({})")
    row = conn.execute(explain_execute.format(literals(statement)), prepare=False).fetchone()
    conn.execute("DEALLOCATE listing", prepare=False)
    assert row is not None
    pending, nodes = [row[0][0]["Plan"]], []
    while pending:
        node = pending.pop()
        nodes.append(node)
        pending += node.get("Plans", [])
    return nodes


def literals(statement: Statement) -> sql.Composed:
    """Return a statement's parameters as SQL literals for EXECUTE."""
    return sql.SQL(", ").join(map(sql.Literal, statement[1].values()))


@pytest.mark.parametrize(
    "criteria",
    [
        ImageCriteria(),
        ImageCriteria(grades=(Grade.A, Grade.B)),
        ImageCriteria(grades=(Grade.A, Grade.B), sort=Sort(SortKey.RISK_SCORE, descending=True)),
        ImageCriteria(grades=(Grade.A, Grade.C)),
        ImageCriteria(sort=Sort(SortKey.NAME, descending=False)),
        ImageCriteria(search="99"),
        ImageCriteria(registry="ghcr.io", risk_score=50),
    ],
    ids=["default", "grade", "grade by risk", "two ranges", "name", "search", "registry and risk"],
)
def test_window_of_any_criteria_counts_by_index_only_scan(
    large_database: Connection, criteria: ImageCriteria
) -> None:
    nodes = explain(large_database, ImageQuery(Scope("org-1"), criteria).window(Page()))

    assert "WindowAgg" in {node["Node Type"] for node in nodes}
    [scan] = [
        node
        for node in nodes
        if node.get("Relation Name") == "images" and node["Alias"] == "images"
    ]
    assert scan["Node Type"] == "Index Only Scan"
    assert scan["Heap Fetches"] == 0
    assert scan["Actual Rows"] >= 1050
    [lookup] = [node for node in nodes if node.get("Alias") == "full_row"]
    assert (lookup["Node Type"], lookup["Index Name"]) == ("Index Scan", "images_pkey")
    assert lookup["Actual Loops"] == 50


def test_sort_of_matches_of_a_registry_uses_registry_index(large_database: Connection) -> None:
    """One registry has all images, and its index is still the one that the planner uses."""
    query = ImageQuery(Scope("org-1"), ImageCriteria(registry="ghcr.io"))
    nodes = explain(large_database, query.page(SortMatches(50, 0)))
    [scan] = [node for node in nodes if node.get("Alias") == "images"]
    assert scan["Index Name"] == "images_registry_idx"
    assert "registry_id" in scan["Index Cond"]


def test_search_for_common_term_stops_window_and_counts_exactly(
    large_database: Connection,
) -> None:
    """The window stops 1,000 rows after the page. A second statement counts all matches."""
    listing = list_images(large_database, Scope("org-1"), ImageCriteria(search="service"), Page())
    assert (listing.total, len(listing.items)) == (99_000, 50)
    query = ImageQuery(Scope("org-1"), ImageCriteria(search="service"))
    for statement, rows in ((query.window(Page()), 1050), (query.count(), 99_000)):
        nodes = explain(large_database, statement)
        [scan] = [node for node in nodes if node.get("Alias") == "images"]
        assert (scan["Node Type"], scan["Heap Fetches"]) == ("Index Only Scan", 0)
        assert scan["Actual Rows"] == rows


def scans_of(nodes: list[dict[str, Any]], table: str) -> set[tuple[str, int]]:
    """Return the indexes that were used for a table, with the rows fetched by index-only scans."""
    executed = [node for node in nodes if node["Actual Loops"] > 0]
    bitmaps = {n["Index Name"] for n in executed if n["Node Type"] == "Bitmap Index Scan"}
    found = {
        (node.get("Index Name") or bitmaps.pop(), node.get("Heap Fetches", 0))
        for node in executed
        if node.get("Relation Name") == table and "full_row" not in node["Alias"]
    }
    assert "Seq Scan" not in {node["Node Type"] for node in executed}
    return found


TRIGRAM, PRIMARY_KEY = ("image_names_trigram_idx", 0), ("image_names_pkey", 0)
SAMPLE, CREATED_AT = "images_pkey", "images_created_at_idx"


# The organization, the term, and the indexes that find the names and the images.
SEARCHES: list[tuple[str, str, tuple[str, int], set[str]]] = [
    ("org-1", "service-77777", TRIGRAM, {SAMPLE}),
    ("org-1", "nowhere", TRIGRAM, {SAMPLE}),
    ("org-1", "team-77", TRIGRAM, {SAMPLE, CREATED_AT}),  # 1 percent
    ("org-1", "service", PRIMARY_KEY, {SAMPLE, CREATED_AT}),
    ("org-1", "e-", PRIMARY_KEY, {SAMPLE, CREATED_AT}),
    ("org-1", "_%\\", PRIMARY_KEY, {SAMPLE}),
    ("org-2", "service-77700", PRIMARY_KEY, set()),
    ("org-2", "service", PRIMARY_KEY, {CREATED_AT}),
]


def check_searches(conn: Connection) -> None:
    """Check the scans of each search; org-2 has few images and never uses the trigrams of all."""
    for organization, term, in_names, in_images in SEARCHES:
        statement = ImageQuery(Scope(organization), ImageCriteria(search=term)).search(Page())
        nodes = explain(conn, statement)
        assert scans_of(nodes, "image_names") == {in_names}, term
        assert {index for index, _ in scans_of(nodes, "images")} == in_images, term


def test_search_uses_the_index_for_its_term(
    large_database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_searches(large_database)
    monkeypatch.setitem(search.PARAMETERS, "min_images", 0)
    with pytest.raises(AssertionError):  # otherwise the check could not fail
        check_searches(large_database)


def test_search_after_a_rescan_of_all_images_reads_no_row_to_find_names(
    large_database: Connection,
) -> None:
    try:
        large_database.execute("UPDATE images SET last_scanned_at = now() WHERE scan_id <> ''")
        check_searches(large_database)
    finally:
        large_database.execute("VACUUM images")


@pytest.fixture(params=[0, 5, 1100])
def small_database(request: pytest.FixtureRequest, server_url: str) -> Iterator[Config]:
    """Yield the settings of a database with few images and without statistics about them."""
    with migrated_database(server_url) as url, pool_connection(Config(database_url=url)) as conn:
        add_organizations(conn)
        conn.execute("ALTER TABLE images SET (autovacuum_enabled = off)")
        conn.execute(with_names(FILL).encode(), {"images": request.param})
        repair_counters(conn, "org-1")
        yield Config(database_url=url)


def test_search_planned_for_small_table_suits_large_table(small_database: Config) -> None:
    for term, in_names in (
        ("service-7777", TRIGRAM[0]),
        ("service", PRIMARY_KEY[0]),
    ):
        with pool_connection(small_database) as conn, conn.transaction(force_rollback=True):
            conn.execute("SET LOCAL statement_timeout = 0")
            statement = ImageQuery(Scope("org-1"), ImageCriteria(search=term)).search(Page())
            prepare(conn, statement)
            fill = with_names(FILL.replace("/acme/", "/late/"))
            conn.execute(fill.encode(), {"images": 20_000})
            conn.execute("UPDATE inventories SET image_count = 20000")
            nodes = explain_prepared(conn, statement)
            scans = scans_of(nodes, "image_names")
            assert {index for index, _ in scans} == {in_names}
            [lookup] = [n for n in nodes if n.get("Alias", "").startswith("full_row_")]
            assert (lookup["Index Name"], lookup["Actual Rows"]) == ("images_pkey", 1)


def test_generic_plan_made_for_small_table_suits_large_table(small_database: Config) -> None:
    """On a new installation, connections plan their statements while the tables are small."""
    by_score = ImageCriteria(sort=Sort(SortKey.RISK_SCORE, descending=True))
    scope = Scope("org-1")
    ranges: list[tuple[ImageCriteria, IndexRange]] = [
        (ImageCriteria(), IndexRange(50, 10, True, Partition.ALL)),
        (ImageCriteria(), IndexRange(50, 10, False, Partition.ALL)),
        (ImageCriteria(grades=(Grade.A,)), IndexRange(50, 10, True)),
        (by_score, IndexRange(50, 10, True, Partition.SCORED, 50)),
        (by_score, IndexRange(50, 10, True, Partition.UNSCORED)),
    ]
    statements = [
        ImageQuery(scope, criteria).page([index_range]) for criteria, index_range in ranges
    ]
    statements.append(ImageQuery(scope, ImageCriteria(search="service")).window(Page()))
    with ExitStack() as stack:
        conns = [stack.enter_context(pool_connection(small_database)) for _ in statements]
        for conn, statement in zip(conns, statements, strict=True):
            prepare(conn, statement)
        filling = stack.enter_context(pool_connection(small_database))
        filling.execute("SET statement_timeout = 0")
        filling.execute(with_names(FILL.replace("/acme/", "/late/")).encode(), {"images": 20_000})
        for conn, statement in zip(conns, statements, strict=True):
            [lookup] = [
                n for n in explain_prepared(conn, statement) if n.get("Alias") == "full_row"
            ]
            assert (lookup["Index Name"], lookup["Actual Loops"]) == ("images_pkey", 50)
            assert (lookup["Actual Rows"], lookup.get("Rows Removed by Filter", 0)) == (1, 0)
