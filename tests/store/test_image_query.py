"""The list's plans at 100,000 images: what is counted, walked or sorted, is so in an index alone."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import sql

from harborguard.config import Config
from harborguard.listing import ImageCriteria, Page, Sort, SortKey
from harborguard.model import Grade, Scope
from harborguard.store.connection import Connection, connect
from harborguard.store.counters import reset_counters
from harborguard.store.image_place import Counts, Few, find_place
from harborguard.store.image_query import ImageQuery, Statement
from harborguard.store.images import list_images
from tests.postgres import migrated_database

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


@pytest.fixture(scope="module")
def crowded(server_url: str) -> Iterator[Connection]:
    """One organization with 100,000 images, vacuumed, beside a small one."""
    with migrated_database(server_url) as url, connect(Config(database_url=url)) as conn:
        conn.execute("INSERT INTO organizations (id, name) VALUES ('org-1', 'a'), ('org-2', 'b')")
        conn.execute(
            """
            INSERT INTO registries (organization_id, id, host, name)
            VALUES ('org-1', 'reg-1', 'ghcr.io', 'ghcr.io'), ('org-2', 'reg-1', 'ghcr.io', 'g')
            """
        )
        # VACUUM calls no row visible to all whose commit is not on disk yet.
        conn.execute("SET synchronous_commit = on")
        conn.execute(FILL, {"images": IMAGES})
        for organization_id in ("org-1", "org-2"):
            reset_counters(conn, organization_id)
        conn.execute("VACUUM (ANALYZE)")
        yield conn


def plan_of(conn: Connection, statement: Statement) -> list[dict[str, Any]]:
    """All nodes of the plan that the statement was run by, made before its values were known."""
    text, parameters = statement
    names = list(parameters)
    numbered = re.sub(r"%\((\w+)\)s", lambda match: f"${names.index(match[1]) + 1}", text)
    values = sql.SQL(", ").join(sql.Literal(parameters[name]) for name in names)
    conn.execute(f"PREPARE asked AS {numbered}".encode(), prepare=False)
    explain = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({})").format(values)
    row = conn.execute(explain, prepare=False).fetchone()
    conn.execute("DEALLOCATE asked", prepare=False)
    assert row is not None
    nodes, found = [row[0][0]["Plan"]], []
    while nodes:
        node = nodes.pop()
        found.append(node)
        nodes += node.get("Plans", [])
    return found


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
    nodes = plan_of(crowded, query.place(Few(50, 0)))
    [found] = [node for node in nodes if node.get("Alias") == "images"]
    assert found["Index Name"] == "images_registry_idx"
    assert "registry_id" in found["Index Cond"]


def test_a_page_deep_in_time_is_entered_at_its_day(crowded: Connection) -> None:
    query = ImageQuery(Scope("org-1"), ImageCriteria())
    page = Page(300)
    days = [(step, n) for _, _, step, n in crowded.fetch(*query.counts())]
    place = find_place(query.sort, page, Counts(0, 99_000, days))
    nodes = plan_of(crowded, query.place(place))
    [walked] = [node for node in nodes if node.get("Alias") == "images"]
    assert (walked["Node Type"], walked["Heap Fetches"]) == ("Index Only Scan", 0)
    assert "created_at" in walked["Index Cond"]
    assert "Filter" not in walked
    assert walked["Actual Rows"] < 1_600  # 15,000 from the nearer end
    listing = list_images(crowded, Scope("org-1"), ImageCriteria(), page)
    window = list_images(crowded, Scope("org-1"), ImageCriteria(), page, use_counters=False)
    assert listing == window


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
