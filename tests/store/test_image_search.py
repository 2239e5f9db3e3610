"""Searches return the same pages as a scan of all images, whichever way the names are found."""

from collections.abc import Iterator
from itertools import product

import pytest

from harborguard.config import Config
from harborguard.listing import ImageCriteria, Page
from harborguard.model import Grade, Scope
from harborguard.store.connection import Connection
from harborguard.store.counters import repair_counters
from harborguard.store.images import search
from harborguard.store.images.list import list_images
from harborguard.store.images.query import ORDERS
from tests.support.postgres import migrated_database, pool_connection
from tests.support.tenants import with_names

IMAGES, PAGE_SIZE = 300, 20
# Scores and creation times repeat, and one image in six was never scanned. Both organizations have
# the same names.
FILL = """
INSERT INTO images (
    organization_id, registry_id, name, created_at, risk_score, grade, scan_id, last_scanned_at
)
SELECT
    organization.id,
    'reg-' || n %% 3,
    n %% 3 || '.test/team_' || n %% 4 || '/service-' || lpad(n::text, 3, '0'),
    timestamptz '2026-01-01' + n * 7 %% 20 * interval '1 hour',
    score,
    CASE WHEN score < 25 THEN 'A' WHEN score < 50 THEN 'B' WHEN score < 75 THEN 'C'
        WHEN score >= 75 THEN 'D' END,
    CASE WHEN score IS NOT NULL THEN 'scan-' || n END,
    CASE WHEN score IS NOT NULL THEN now() END
FROM organizations AS organization, generate_series(1, %(images)s) AS n,
    LATERAL (SELECT CASE WHEN n %% 6 > 0 THEN n * 11 %% 30 * 100 / 29 END AS score) AS s
"""
# The terms, and a condition in plain SQL that matches the same names.
TERMS = {
    "service-077": "strpos(name, 'service-077') > 0",  # one image
    "Service-07": "strpos(name, 'service-07') > 0",
    "0.test/": "strpos(name, '0.test/') > 0",
    "service": "true",
    "7": "strpos(name, '7') > 0",
    "m_1": "strpos(name, 'm_1') > 0",
    "m-1": "false",
    "team%": "false",
    "team\\": "false",
    "team_1/service-\u212a": "false",
    "\u00e9\U0001f600": "false",
    "nothing-service": "false",
}
OTHERS = [
    (Scope("org-1"), {}, "true"),
    (Scope("org-1", "reg-2"), {}, "registry_id = 'reg-2'"),
    (Scope("org-1"), {"registry": "Registry 1"}, "registry_id = 'reg-1'"),
    (Scope("org-1"), {"registry": "none"}, "false"),
    (Scope("org-1"), {"grades": (Grade.A, Grade.C)}, "grade IN ('A', 'C')"),
    (Scope("org-1", "reg-0"), {"risk_score": 90}, "risk_score >= 90 AND registry_id = 'reg-0'"),
]
# Values of the limits with which each way of finding names is used.
ALL = IMAGES
WAYS = {
    "all names": {"min_images": ALL + 1},
    "all names, never sorted": {"min_images": ALL + 1, "max_sorted": 0},
    "trigrams": {"min_images": 0, "max_in_sample": ALL, "max_rare": 0, "max_sorted": ALL},
    "trigrams of a word": {"min_images": 0, "max_in_sample": ALL, "max_rare": ALL},
    "trigrams, never sorted": {"min_images": 0, "max_in_sample": ALL, "max_sorted": 0},
    "count": {"min_images": 0, "max_in_sample": -1},
    "release": {},
}


@pytest.fixture(scope="module")
def database(server_url: str) -> Iterator[Connection]:
    """Yield a connection to a database with two organizations of 300 images each."""
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


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("term", TERMS)
def test_search_equals_plain_sql_whichever_way_names_are_found(
    database: Connection, monkeypatch: pytest.MonkeyPatch, term: str, way: str
) -> None:
    for name, value in WAYS[way].items():
        monkeypatch.setitem(search.PARAMETERS, name, value)
    for (scope, others, plain), (sort, order) in product(OTHERS, ORDERS.items()):
        criteria = ImageCriteria(search=term, sort=sort, **others)
        rows = database.execute(
            f"SELECT id FROM images WHERE organization_id = 'org-1' AND {plain}"
            f" AND {TERMS[term]} ORDER BY {order}".encode()
        ).fetchall()
        ids = [row[0] for row in rows]
        for number in (1, 2, len(ids) // PAGE_SIZE + 1, 99):
            page = Page(number, PAGE_SIZE)
            listing = list_images(database, scope, criteria, page)
            assert [image.id for image in listing.items] == ids[page.offset :][:PAGE_SIZE]
            assert listing.total == len(ids)
            assert listing == list_images(database, scope, criteria, page, use_counters=False)


def test_page_of_a_search_with_the_largest_number_is_empty(database: Connection) -> None:
    for way in WAYS.values():
        with pytest.MonkeyPatch.context() as monkeypatch:
            for name, value in way.items():
                monkeypatch.setitem(search.PARAMETERS, name, value)
            page = Page(2**58, PAGE_SIZE)
            listing = list_images(database, Scope("org-1"), ImageCriteria(search="service"), page)
            assert (listing.items, listing.total) == ([], IMAGES)


def test_image_without_a_name_cannot_be_committed(database: Connection) -> None:
    insert = FILL.replace("'/service-'", "'/late-'")
    with pytest.raises(Exception, match="images_organization_id_name_fkey"):
        database.execute(insert.encode(), {"images": 1})


def test_name_of_a_deleted_image_is_deleted(database: Connection) -> None:
    condition = "organization_id = 'org-2' AND name LIKE '%service-077'"
    with database.transaction(force_rollback=True):
        assert database.execute(f"DELETE FROM images WHERE {condition}".encode()).rowcount == 1
        database.execute("SET CONSTRAINTS ALL IMMEDIATE")
        names = database.execute(f"SELECT name FROM image_names WHERE {condition}".encode())
        assert names.fetchall() == []
