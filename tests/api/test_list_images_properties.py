"""GET /api/images against a plain oracle: any data, filter, sort, limit."""

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harborguard.api.schemas import SORTS
from harborguard.store.connection import Connection
from harborguard.store.counters import reset_counters
from harborguard.store.images import query as image_query
from tests.support import oracle
from tests.support.listing import ask
from tests.support.tenants import CREATED_AT, Tenant, Tenants, add_tenant

HOSTS = {"ghcr.io": "GitHub", "quay.io": "Quay", "mirror.test:5000": "quay.io"}

images = st.lists(
    st.tuples(
        st.sampled_from(sorted(HOSTS)),
        st.text("ab-_1/", min_size=1, max_size=5),
        st.none() | st.sampled_from([0, 24, 25, 49, 50, 74, 75, 100]) | st.integers(0, 100),
        st.integers(0, 5),
    ),
    max_size=25,
    unique_by=lambda image: image[:2],
)
questions = st.fixed_dictionaries(
    {},
    optional={
        "registry": st.sampled_from(["ghcr.io", "QUAY.IO", "quay", "github", "elsewhere"]),
        "riskScore": st.integers(0, 100),
        "grade": st.lists(st.sampled_from("ABCD"), min_size=1, unique=True).map(
            lambda letters: ",".join(sorted(letters))
        ),
        "search": st.text("abAB-_1/%\\", min_size=1, max_size=3),
        "sort": st.sampled_from(sorted(SORTS)),
    },
)


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few images meet all that thousands do: windows end soon, pages are deep soon."""
    monkeypatch.setattr(image_query, "MAX_COUNTED_BEHIND", 2)
    monkeypatch.setattr(image_query, "MAX_EARLY_OFFSET", 3)


def fill(member: Tenant, made: list[tuple[str, str, int | None, int]]) -> list[oracle.Row]:
    """The images in the database, and the same for the oracle."""
    member.conn.execute("DELETE FROM images")
    reset_counters(member.conn, member.organization_id)
    rows = []
    for host, path, score, day in made:
        name = f"{host}/{path}"
        # Some differ by less than an answer shows, and yet are of another day.
        created_at = CREATED_AT + timedelta(days=day // 3, microseconds=day % 3 - 1)
        registry_id = member.add_registry(host, HOSTS[host])
        image_id = member.add_image(name, score, created_at=created_at)
        rows.append(oracle.Row(image_id, name, registry_id, host, HOSTS[host], score, created_at))
    return rows


def walk(client: FlaskClient, member: Tenant, question: dict[str, Any]) -> list[str]:
    """The ids on all pages, by following `next`; every page must be true to the question."""
    body = ask(client, member, **question)
    total, seen = body["meta"]["total"], []
    while True:
        assert body["meta"]["total"] == total
        check_links(body, question)
        seen += [row["id"] for row in body["data"]]
        if "next" not in body["links"]:
            break
        response = client.get(body["links"]["next"], headers=member.headers)
        assert response.json is not None
        body = response.json
    assert len(seen) == total
    return seen


def check_links(body: dict[str, Any], question: dict[str, Any]) -> None:
    """Every link asks the same question, and differs by its page alone."""
    number, pages = body["meta"]["page"], body["meta"]["totalPages"]
    expected = {"self": number}
    if number < pages:
        expected["next"] = number + 1
    if number > 1 and pages:
        expected["prev"] = min(number - 1, pages)
    assert set(body["links"]) == set(expected)
    assert (body["meta"]["hasNext"], body["meta"]["hasPrev"]) == (
        "next" in expected,
        "prev" in expected,
    )
    filters = {name: [str(value)] for name, value in question.items() if name != "page"}
    for relation, page in expected.items():
        link = urlsplit(body["links"][relation])
        assert link.path == "/api/images"
        assert parse_qs(link.query) == {"limit": ["50"], **filters, "page": [str(page)]}


@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(made=images, question=questions, limit=st.integers(1, 9), beyond=st.integers(1, 10**6))
def test_it_works(
    client: FlaskClient,
    tenants: Tenants,
    made: list[tuple[str, str, int | None, int]],
    question: dict[str, Any],
    limit: int,
    beyond: int,
) -> None:
    rows = fill(tenants.acme, made)
    expected = oracle.list_ids(rows, question)

    assert walk(client, tenants.acme, {**question, "limit": limit}) == expected

    past = ask(client, tenants.acme, **question, limit=limit, page=len(expected) + beyond)
    if len(expected) < (len(expected) + beyond - 1) * limit:
        assert (past["data"], past["meta"]["total"]) == ([], len(expected))
    check_links(past, {**question, "limit": limit})


def test_one_organization_never_sees_another(client: FlaskClient, conn: Connection) -> None:
    """Twenty organizations with the same names, digests and registries."""
    members = [add_tenant(conn, f"tenant-{number}") for number in range(20)]
    owners: dict[str, int] = {}
    for number, member in enumerate(members):
        for path, score in (("api", 10), ("web", 60), ("new", None), ("old", 90)):
            # Each has one more image than the one before, so that a foreign total shows.
            for copy in range(number + 1):
                name = f"ghcr.io/acme/{path}-{copy}"
                owners[member.add_image(name, score, latest_digest="sha256:same")] = number
    everyone = [
        {},
        {"registry": "ghcr.io"},
        {"registry": members[7].add_registry("ghcr.io")},
        {"riskScore": 0},
        {"grade": "A,D"},
        {"search": "api"},
        {"search": "acme", "grade": "A,B,C,D", "riskScore": 1, "registry": "GHCR.IO"},
    ]
    for number, member in enumerate(members):
        mine = [image_id for image_id, owner in owners.items() if owner == number]
        for question in everyone:
            for sort in SORTS:
                body = ask(client, member, **question, sort=sort, limit=200)
                seen = [row["id"] for row in body["data"]]
                assert {owners[image_id] for image_id in seen} <= {number}
                assert body["meta"]["total"] == len(seen) <= len(mine)
        assert ask(client, member)["meta"]["total"] == len(mine)
        assert ask(client, member, page=999)["meta"]["total"] == len(mine)
