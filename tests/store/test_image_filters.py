"""A filter of any kind works in every sort, on every page, with the counters and without.

Each test adds one condition to FILTERS and compares the list or the summary with plain SQL over
the table.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import LiteralString

import pytest
from psycopg.errors import UndefinedColumn

from harborguard.config import Config
from harborguard.listing import ImageCriteria, Page, RegistryCount, Sort, SortKey
from harborguard.model import Grade, Scope
from harborguard.store.connection import Connection
from harborguard.store.counters import repair_counters
from harborguard.store.images import filters, query
from harborguard.store.images.filters import Condition
from harborguard.store.images.list import list_images
from harborguard.store.images.summary import count_images
from tests.support.postgres import migrated_database, pool_connection
from tests.support.tenants import with_names

SCOPE = Scope("org-1")
IMAGES, PAGE_SIZE = 60, 4
# Two organizations with the same registries and images. Scores and creation times repeat, and one
# image in six was never scanned.
FILL = """
INSERT INTO images (
    organization_id, id, registry_id, name, created_at, risk_score, grade, scan_id,
    last_scanned_at, tag_count, latest_tag
)
SELECT
    organization.id,
    'img-' || left(md5(n::text), 16),
    'reg-' || n %% 3,
    'ghcr.io/team-' || n %% 4 || '/service-' || n,
    timestamptz '2026-01-01' + n * 7 %% 20 * interval '1 hour',
    score,
    CASE WHEN score < 25 THEN 'A' WHEN score < 50 THEN 'B' WHEN score < 75 THEN 'C'
        WHEN score >= 75 THEN 'D' END,
    CASE WHEN score IS NOT NULL THEN 'scan-' || n END,
    CASE WHEN score IS NOT NULL THEN now() - n %% 3 * interval '1 hour' END,
    n %% 5,
    CASE WHEN n %% 5 > 0 THEN '1.' || n %% 7 END
FROM organizations AS organization, generate_series(1, %(images)s) AS n,
    LATERAL (SELECT CASE WHEN n %% 6 > 0 THEN n * 11 %% 30 * 100 / 29 END AS score) AS s
"""
ORDERS: dict[Sort, LiteralString] = {
    Sort(SortKey.NAME, descending=False): "name, id",
    Sort(SortKey.NAME, descending=True): "name DESC, id DESC",
    Sort(SortKey.CREATED_AT, descending=False): "created_at, id",
    Sort(SortKey.CREATED_AT, descending=True): "created_at DESC, id DESC",
    Sort(SortKey.RISK_SCORE, descending=False): "risk_score IS NULL, risk_score, id",
    Sort(SortKey.RISK_SCORE, descending=True): "risk_score IS NULL, risk_score DESC, id DESC",
    Sort(SortKey.LAST_SCANNED_AT, descending=False): "last_scanned_at, id",
    Sort(SortKey.LAST_SCANNED_AT, descending=True): "last_scanned_at DESC NULLS LAST, id DESC",
    Sort(SortKey.TAG_COUNT, descending=False): "tag_count, id",
    Sort(SortKey.TAG_COUNT, descending=True): "tag_count DESC, id DESC",
}


@dataclass(frozen=True)
class Added:
    """A condition that is added to the list's filters, and its equivalent in plain SQL."""

    condition: Condition | None
    plain: LiteralString


ADDED = {
    "not given": Added(None, "true"),
    # The counters have these columns.
    "registry_id": Added(
        Condition("registry_id <> %(excluded_id)s", {"excluded_id": "reg-2"}),
        "registry_id IN ('reg-0', 'reg-1')",
    ),
    "risk_score": Added(
        Condition("risk_score < %(below)s", {"below": 97}), "risk_score BETWEEN 0 AND 96"
    ),
    # The counters do not have it; every index that a sort order uses does.
    "name": Added(
        Condition("name NOT LIKE %(suffix)s", {"suffix": "%7"}, in_counters=False),
        "right(name, 1) <> '7'",
    ),
    # Neither the counters nor an index have these.
    "tag_count": Added(
        Condition("tag_count >= %(min_tags)s", {"min_tags": 2}, in_counters=False),
        "tag_count IN (2, 3, 4)",
    ),
    "latest_tag": Added(
        Condition("latest_tag = %(latest_tag)s", {"latest_tag": "1.4"}, in_counters=False),
        "coalesce(latest_tag, '') = '1.4'",
    ),
}
NOT_IN_COUNTERS = [
    name for name, added in ADDED.items() if added.condition and not added.condition.in_counters
]
# Filters of the list that are combined with the added one. So few images match the last one that
# they are fetched and sorted.
OTHERS: list[tuple[ImageCriteria, LiteralString]] = [
    (ImageCriteria(), "true"),
    (ImageCriteria(search="Team-1"), "strpos(name, 'team-1') > 0"),
    (ImageCriteria(grades=(Grade.A, Grade.C)), "grade IN ('A', 'C')"),
    (ImageCriteria(risk_score=95), "coalesce(risk_score, 0) >= 95"),
]

each_added = pytest.mark.parametrize("added", ADDED.values(), ids=ADDED)
with_and_without_counters = pytest.mark.parametrize(
    "use_counters", [True, False], ids=["counters", "no counters"]
)


@pytest.fixture(scope="module")
def database(server_url: str) -> Iterator[Connection]:
    """Yield a connection to a database with two organizations of 60 images each."""
    with migrated_database(server_url) as url, pool_connection(Config(database_url=url)) as conn:
        conn.execute("INSERT INTO organizations (id, name) VALUES ('org-1', 'a'), ('org-2', 'b')")
        conn.execute(
            """
            INSERT INTO registries (organization_id, id, host, name)
            SELECT organization.id, 'reg-' || n, n || '.test', 'Registry ' || n
            FROM organizations AS organization, generate_series(0, 2) AS n
            """
        )
        conn.execute(with_names(FILL).encode(), {"images": IMAGES})
        for organization_id in ("org-1", "org-2"):
            repair_counters(conn, organization_id)
        yield conn


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the limits, so that 60 images have early pages, planned pages and uncounted rows."""
    monkeypatch.setattr(query, "MAX_EARLY_OFFSET", 2 * PAGE_SIZE)
    monkeypatch.setattr(query, "MAX_COUNTED_AFTER_PAGE", 2)


def add_filter(monkeypatch: pytest.MonkeyPatch, condition: Condition | None) -> None:
    """Add a filter that returns the condition for any criteria."""
    monkeypatch.setattr(filters, "FILTERS", (*filters.FILTERS, lambda _criteria: condition))


def list_ids(conn: Connection, criteria: ImageCriteria, *, use_counters: bool) -> list[str]:
    """Return the ids on all pages; check the total of each, and of a page past the end."""
    ids: list[str] = []
    number, total = 1, 0
    while number == 1 or (number - 2) * PAGE_SIZE < total:
        page = Page(number, PAGE_SIZE)
        listing = list_images(conn, SCOPE, criteria, page, use_counters=use_counters)
        assert listing.total == total or number == 1
        total = listing.total
        assert len(listing.items) == min(PAGE_SIZE, max(0, total - page.offset))
        ids += [image.id for image in listing.items]
        number += 1
    assert len(ids) == total
    return ids


def select_ids(conn: Connection, condition: LiteralString, order: LiteralString) -> list[str]:
    """Return the ids of the matching images of org-1 by plain SQL."""
    rows = conn.execute(
        f"SELECT id FROM images WHERE organization_id = 'org-1' AND {condition} ORDER BY {order}"
    )
    return [row[0] for row in rows]


def select_counts(conn: Connection, condition: LiteralString) -> list[RegistryCount]:
    """Return the matching images of org-1 by registry and grade by plain SQL."""
    rows = conn.execute(
        f"""
        SELECT registry_id, host, registry.name, count(*),
            count(*) FILTER (WHERE grade = 'A'), count(*) FILTER (WHERE grade = 'B'),
            count(*) FILTER (WHERE grade = 'C'), count(*) FILTER (WHERE grade = 'D'),
            count(*) FILTER (WHERE grade IS NULL)
        FROM (SELECT * FROM images WHERE organization_id = 'org-1' AND {condition}) AS image
        JOIN registries AS registry USING (organization_id)
        WHERE registry.id = registry_id
        GROUP BY 1, 2, 3
        ORDER BY host
        """
    )
    return [RegistryCount._make((*row[:4], row[4:8], row[8])) for row in rows]


@with_and_without_counters
@pytest.mark.parametrize("sort", ORDERS, ids=ORDERS.values())
@each_added
def test_list_with_added_filter_equals_plain_sql(
    database: Connection,
    monkeypatch: pytest.MonkeyPatch,
    added: Added,
    sort: Sort,
    use_counters: bool,
) -> None:
    add_filter(monkeypatch, added.condition)
    for criteria, plain in OTHERS:
        ids = list_ids(database, replace(criteria, sort=sort), use_counters=use_counters)
        assert ids == select_ids(database, f"{added.plain} AND {plain}", ORDERS[sort])


@each_added
def test_added_filter_matches_some_images_of_every_other_filter(
    database: Connection, added: Added
) -> None:
    """Otherwise the comparison with plain SQL could not fail."""
    matching = select_ids(database, added.plain, "id")
    assert len(matching) < IMAGES or added.condition is None
    for _, plain in OTHERS[:3]:
        assert len(select_ids(database, f"{added.plain} AND {plain}", "id")) > 0


@with_and_without_counters
@each_added
def test_summary_with_added_filter_equals_plain_sql(
    database: Connection, monkeypatch: pytest.MonkeyPatch, added: Added, use_counters: bool
) -> None:
    add_filter(monkeypatch, added.condition)
    for criteria, plain in OTHERS:
        counts = count_images(database, SCOPE, criteria, use_counters=use_counters)
        assert counts == select_counts(database, f"{added.plain} AND {plain}")


@pytest.mark.parametrize("name", NOT_IN_COUNTERS)
def test_condition_wrongly_marked_as_in_counters_raises(
    database: Connection, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The flag alone keeps the condition from image_counts, which does not have the column."""
    condition = ADDED[name].condition
    assert condition is not None
    add_filter(monkeypatch, replace(condition, in_counters=True))
    with pytest.raises(UndefinedColumn, match=f'"{name}" does not exist'):
        list_images(database, SCOPE, ImageCriteria(), Page())
    with pytest.raises(UndefinedColumn, match=f'"{name}" does not exist'):
        count_images(database, SCOPE, ImageCriteria())
