"""The list's plans at 100,000 images: what is counted, walked or sorted, is so in an index alone."""

from collections.abc import Iterator
from typing import Any

import pytest

from harborguard.config import Config
from harborguard.listing import ImageCriteria, Page, Sort, SortKey
from harborguard.model import Grade, Scope
from harborguard.store.counters import reset_counters
from harborguard.store.image_query import ImageQuery
from harborguard.store.pool import Connection, connect
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


def plan_of(conn: Connection, criteria: ImageCriteria) -> list[dict[str, Any]]:
    """All nodes of the plan that the statement was run by."""
    text, parameters = ImageQuery(Scope("org-1"), criteria).window(Page())
    explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {text}"
    row = conn.execute(explain, parameters).fetchone()
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
    nodes = plan_of(crowded, criteria)

    assert "WindowAgg" in {node["Node Type"] for node in nodes}
    [counting] = [
        node
        for node in nodes
        if node.get("Relation Name") == "images" and node["Alias"] == "images"
    ]
    assert counting["Node Type"] == "Index Only Scan"
    assert counting["Heap Fetches"] == 0
    assert counting["Actual Rows"] > 1000
    [joined] = [node for node in nodes if node.get("Alias") == "wide"]
    assert (joined["Node Type"], joined["Index Name"]) == ("Index Scan", "images_pkey")
    assert joined["Actual Loops"] == 50
