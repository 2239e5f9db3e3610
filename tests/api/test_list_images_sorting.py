"""GET /api/images: the orders, with ties and nulls across page boundaries."""

from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from harborguard.api.queries import IMAGE_SORTS
from harborguard.store.images.query import ORDERS
from tests.support.listing import list_images, list_names
from tests.support.tenants import CREATED_AT, Tenants


@pytest.fixture
def images(tenants: Tenants) -> Tenants:
    """Add five images whose names, times and scores are in different orders."""
    for day, (name, score) in enumerate(
        [("b", 50), ("A".lower() + "_", None), ("a-", 0), ("c", 100), ("a", None)]
    ):
        tenants.acme.add_image(
            f"ghcr.io/acme/{name}", score, created_at=CREATED_AT + timedelta(days=day)
        )
    return tenants


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("name:asc", ["a", "a-", "a_", "b", "c"]),
        ("name:desc", ["c", "b", "a_", "a-", "a"]),
        ("createdAt:asc", ["b", "a_", "a-", "c", "a"]),
        ("createdAt:desc", ["a", "c", "a-", "a_", "b"]),
    ],
)
def test_sort_by_name_or_time_orders_rows(
    client: FlaskClient, images: Tenants, sort: str, expected: list[str]
) -> None:
    assert list_names(client, images.acme, sort=sort) == expected


@pytest.mark.parametrize(
    ("sort", "scores"),
    [
        ("riskScore:asc", [0, 50, 100, None, None]),
        ("riskScore:desc", [100, 50, 0, None, None]),
    ],
)
def test_sort_by_score_puts_never_scanned_last_in_both_directions(
    client: FlaskClient, images: Tenants, sort: str, scores: list[int | None]
) -> None:
    rows = list_images(client, images.acme, sort=sort)["data"]
    assert [row["riskScore"] for row in rows] == scores
    ids = [row["id"] for row in rows if row["riskScore"] is None]
    assert ids == sorted(ids, reverse=sort.endswith("desc"))


@pytest.mark.parametrize(
    "sort",
    [
        "", "name", "name:", ":asc", "name:ASC", "Name:asc", "name:up", "name:asc:desc", "id:asc",
        "organization_id:asc", "risk_score:desc", "created_at:asc", "name asc", "name:asc ",
        " name:asc", "grade:asc", "1:asc", "name:asc;DROP TABLE images", "name:asc, id:asc", "\u0000",
    ],
)  # fmt: skip
def test_unknown_sort_uses_the_default_and_is_not_in_links(
    client: FlaskClient, images: Tenants, sort: str
) -> None:
    body = list_images(client, images.acme, sort=sort)
    assert [row["name"][-1] for row in body["data"]] == ["a", "c", "-", "_", "b"]
    assert body["links"] == {"self": "/api/images?page=1&limit=50"}


@pytest.mark.parametrize("sort", sorted(IMAGE_SORTS))
def test_sort_breaks_ties_by_id_across_pages(
    client: FlaskClient, tenants: Tenants, sort: str
) -> None:
    for number in range(7):
        tenants.acme.add_image(f"ghcr.io/acme/{number}", 40 if number % 2 else None)
    paged = [
        row["id"]
        for page in range(1, 5)
        for row in list_images(client, tenants.acme, sort=sort, limit=2, page=page)["data"]
    ]
    ids = [row["id"] for row in list_images(client, tenants.acme, sort=sort)["data"]]
    assert paged == ids
    assert len(set(paged)) == 7
    if sort.startswith("createdAt"):
        assert ids == sorted(ids, reverse=sort.endswith("desc"))


def test_orders_are_exactly_those_of_the_contract() -> None:
    assert set(IMAGE_SORTS.values()) == set(ORDERS)
    assert sorted(IMAGE_SORTS) == [
        "createdAt:asc",
        "createdAt:desc",
        "lastScannedAt:asc",
        "lastScannedAt:desc",
        "name:asc",
        "name:desc",
        "riskScore:asc",
        "riskScore:desc",
        "tagCount:asc",
        "tagCount:desc",
    ]
    for sort, text in ORDERS.items():
        assert text.endswith("id DESC" if sort.descending else "id ASC")
