"""The list's plans at 100,000 images: what is counted, walked or sorted, is so in an index alone."""

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
from harborguard.store.counters import reset_counters
from harborguard.store.images.list import list_images
from harborguard.store.images.plan import IndexRange, Partition, SortMatches
from harborguard.store.images.query import ImageQuery, Statement
from tests.support.postgres import migrated_database, pool_connection

IMAGES = 100_000
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
    substr('AAAABBBBCCCCDDDD', 1 + score / 7, 1),
    CASE WHEN score >= 0 THEN 'scan-' || left(md5(n::text), 16) END,
    CASE WHEN score >= 0 THEN now() END,
    n %% 9,
    '1.2.' || n,
    'sha256:' || md5(n::text) || md5((-n)::text)
FROM generate_series(1, %(images)s) AS n, nullif(n %% 103, 102) AS x, nullif(x, 101) AS score
"""


def found(conn: Connection) -> None:
    """Two organizations, each with a registry of the same id."""
    conn.execute("INSERT INTO organizations (id, name) VALUES ('org-1', 'a'), ('org-2', 'b')")
    conn.execute(
        """
        INSERT INTO registries (organization_id, id, host, name)
        VALUES ('org-1', 'reg-1', 'ghcr.io', 'ghcr.io'), ('org-2', 'reg-1', 'ghcr.io', 'g')
        """
    )


@pytest.fixture(scope="module")
def crowded(server_url: str) -> Iterator[Connection]:
    """One organization with 100,000 images, vacuumed, beside a small one."""
    with migrated_database(server_url) as url, pool_connection(Config(database_url=url)) as conn:
        found(conn)
        conn.execute("SET statement_timeout = 0")
        # VACUUM calls no row visible to all whose commit is not on disk yet.
        conn.execute("SET synchronous_commit = on")
        conn.execute(FILL, {"images": IMAGES})
        for organization_id in ("org-1", "org-2"):
            reset_counters(conn, organization_id)
        conn.execute("VACUUM (ANALYZE)")
        yield conn


def plan_of(conn: Connection, statement: Statement) -> list[dict[str, Any]]:
    """All nodes of the plan that the statement was run by, made before its values were known."""
    prepare(conn, statement)
    return run_prepared(conn, statement)


def prepare(conn: Connection, statement: Statement) -> None:
    """Has the plan made, from now on the same for all values."""
    text, parameters = statement
    names = list(parameters)
    numbered = re.sub(r"%\((\w+)\)s", lambda match: f"${names.index(match[1]) + 1}", text)
    conn.execute(f"PREPARE asked AS {numbered}".encode(), prepare=False)
    conn.execute(sql.SQL("EXPLAIN EXECUTE asked ({})").format(values(statement)), prepare=False)


def run_prepared(conn: Connection, statement: Statement) -> list[dict[str, Any]]:
    """All nodes of the plan that was made, with what each of them did."""
    explain = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({})")
    row = conn.execute(explain.format(values(statement)), prepare=False).fetchone()
    conn.execute("DEALLOCATE asked", prepare=False)
    assert row is not None
    nodes, found = [row[0][0]["Plan"]], []
    while nodes:
        node = nodes.pop()
        found.append(node)
        nodes += node.get("Plans", [])
    return found


def values(statement: Statement) -> sql.Composed:
    """The statement's parameters, as they are given to a prepared one."""
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
def test_it_works(crowded: Connection, criteria: ImageCriteria) -> None:
    nodes = plan_of(crowded, ImageQuery(Scope("org-1"), criteria).window(Page()))

    assert "WindowAgg" in {node["Node Type"] for node in nodes}
    [counting] = [
        node
        for node in nodes
        if node.get("Relation Name") == "images" and node["Alias"] == "images"
    ]
    assert counting["Node Type"] == "Index Only Scan"
    assert counting["Heap Fetches"] == 0
    assert counting["Actual Rows"] >= 1050
    [joined] = [node for node in nodes if node.get("Alias") == "wide"]
    assert (joined["Node Type"], joined["Index Name"]) == ("Index Scan", "images_pkey")
    assert joined["Actual Loops"] == 50


def test_few_of_a_registry_are_found_by_it(crowded: Connection) -> None:
    """Though the only registry there is has everything, as far as the planner can see."""
    query = ImageQuery(Scope("org-1"), ImageCriteria(registry="ghcr.io"))
    nodes = plan_of(crowded, query.page(SortMatches(50, 0)))
    [found] = [node for node in nodes if node.get("Alias") == "images"]
    assert found["Index Name"] == "images_registry_idx"
    assert "registry_id" in found["Index Cond"]


def test_a_common_term_is_counted_without_being_kept(crowded: Connection) -> None:
    """The window stops behind the page; what is behind that is counted, and the total is exact."""
    listing = list_images(crowded, Scope("org-1"), ImageCriteria(search="service"), Page())
    assert (listing.total, len(listing.items)) == (99_000, 50)
    query = ImageQuery(Scope("org-1"), ImageCriteria(search="service"))
    for statement, read in ((query.window(Page()), 1050), (query.count(), 99_000)):
        nodes = plan_of(crowded, statement)
        [counting] = [node for node in nodes if node.get("Alias") == "images"]
        assert (counting["Node Type"], counting["Heap Fetches"]) == ("Index Only Scan", 0)
        assert counting["Actual Rows"] == read


@pytest.fixture(params=[0, 5, 1100])
def growing(request: pytest.FixtureRequest, server_url: str) -> Iterator[Config]:
    """A database with few images, of which statistics know nothing, now or later."""
    with migrated_database(server_url) as url, pool_connection(Config(database_url=url)) as conn:
        found(conn)
        conn.execute("ALTER TABLE images SET (autovacuum_enabled = off)")
        conn.execute(FILL, {"images": request.param})
        reset_counters(conn, "org-1")
        yield Config(database_url=url)


def test_a_plan_made_for_few_serves_many(growing: Config) -> None:
    """As after a first install: the service is asked before the bulk of reports has come."""
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
        conns = [stack.enter_context(pool_connection(growing)) for _ in statements]
        for conn, statement in zip(conns, statements, strict=True):
            prepare(conn, statement)
        stack.enter_context(pool_connection(growing)).execute(
            FILL.replace("/acme/", "/late/"), {"images": 20_000}
        )
        for conn, statement in zip(conns, statements, strict=True):
            [joined] = [n for n in run_prepared(conn, statement) if n.get("Alias") == "wide"]
            assert (joined["Index Name"], joined["Actual Loops"]) == ("images_pkey", 50)
            assert (joined["Actual Rows"], joined.get("Rows Removed by Filter", 0)) == (1, 0)
