"""Polling an inventory that has not changed costs next to nothing, and tells nothing to strangers."""

from functools import partial

import pytest
from flask.testing import FlaskClient

from harborguard.api import conditional
from harborguard.model import Role
from harborguard.store import principals
from harborguard.store.connection import Connection
from harborguard.store.counters import change_counters
from harborguard.store.images import list as store
from tests.support.tenants import Tenants


def ask(client: FlaskClient, headers: dict[str, str], query: str = "", etag: str = "") -> int:
    """The status of a poll that has `etag` already."""
    given = {"If-None-Match": etag} if etag else {}
    return client.get(f"/api/images{query}", headers={**headers, **given}).status_code


def etag_of(client: FlaskClient, headers: dict[str, str], query: str = "") -> str:
    """The tag of an answer."""
    return client.get(f"/api/images{query}", headers=headers).headers["ETag"]


def test_it_works(client: FlaskClient, tenants: Tenants) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    etag = etag_of(client, tenants.acme.headers)

    unchanged = client.get("/api/images", headers={**tenants.acme.headers, "If-None-Match": etag})

    assert (unchanged.status_code, unchanged.data) == (304, b"")
    assert unchanged.headers["ETag"] == etag
    assert unchanged.headers["Cache-Control"] == "private, no-cache"
    assert unchanged.headers["Vary"] == "Authorization, Cookie, X-API-Key"
    tenants.acme.add_image("ghcr.io/acme/web", 31)
    changed = client.get("/api/images", headers={**tenants.acme.headers, "If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != etag
    assert changed.json["meta"]["total"] == 2


@pytest.mark.parametrize(
    "form", ["{}", "W/{}", '"x", {}', '"x" , W/{},"y"', "*", '{}, "z"'], ids=str
)
def test_tags_are_compared_weakly_in_lists_and_any(
    client: FlaskClient, tenants: Tenants, form: str
) -> None:
    etag = etag_of(client, tenants.acme.headers)
    assert ask(client, tenants.acme.headers, etag=form.format(etag)) == 304


@pytest.mark.parametrize("form", ['"x"', "x", '"', "W/", ",", "{}x", '"{}"', " "])
def test_other_tags_are_answered(client: FlaskClient, tenants: Tenants, form: str) -> None:
    etag = etag_of(client, tenants.acme.headers).strip('"')
    assert ask(client, tenants.acme.headers, etag=form.format(etag + "0")) == 200


def test_head_is_the_same(client: FlaskClient, tenants: Tenants) -> None:
    etag = etag_of(client, tenants.acme.headers)
    headers = {**tenants.acme.headers, "If-None-Match": etag}
    assert client.head("/api/images", headers=headers).status_code == 304


@pytest.mark.parametrize(
    "query", ["", "?page=2", "?limit=7", "?grade=A", "?grade=A,B", "?search=a", "?riskScore=0", "?registry=x", "?sort=name:asc"]
)  # fmt: skip
def test_another_question_has_another_tag(
    client: FlaskClient, tenants: Tenants, query: str
) -> None:
    other = etag_of(client, tenants.acme.headers, "?limit=3")
    assert ask(client, tenants.acme.headers, query, etag=other) == 200
    assert (
        ask(client, tenants.acme.headers, query, etag=etag_of(client, tenants.acme.headers, query))
        == 304
    )


def test_the_same_question_in_other_words_has_the_same_tag(
    client: FlaskClient, tenants: Tenants
) -> None:
    etag = etag_of(client, tenants.acme.headers, "?grade=A,B&limit=50")
    assert ask(client, tenants.acme.headers, "?foo=1&grade=%20b,a&page=01", etag=etag) == 304


def test_another_release_has_another_tag(
    client: FlaskClient, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers may look otherwise."""
    etag = etag_of(client, tenants.acme.headers)
    monkeypatch.setattr(conditional, "__version__", "99.0.0")
    assert ask(client, tenants.acme.headers, etag=etag) == 200


def test_never_across_organizations(
    client: FlaskClient, tenants: Tenants, conn: Connection
) -> None:
    conn.execute("UPDATE inventories SET version = 1")
    acme, globex = (etag_of(client, member.headers) for member in (tenants.acme, tenants.globex))
    assert acme != globex
    assert ask(client, tenants.globex.headers, etag=acme) == 200
    assert ask(client, tenants.globex.headers, etag=globex) == 304


def test_a_bound_key_has_a_tag_of_its_own(client: FlaskClient, tenants: Tenants) -> None:
    registry_id = tenants.acme.add_registry("ghcr.io")
    bound = {"X-API-Key": tenants.acme.add_key(registry_id=registry_id)}
    assert ask(client, bound, etag=etag_of(client, tenants.acme.headers)) == 200
    assert ask(client, bound, etag=etag_of(client, bound)) == 304
    another = {"X-API-Key": tenants.acme.add_key(Role.OWNER)}
    assert ask(client, another, etag=etag_of(client, tenants.acme.headers)) == 304


def test_not_for_who_has_just_lost_the_right(
    client: FlaskClient, tenants: Tenants, conn: Connection
) -> None:
    etag = etag_of(client, tenants.acme.headers)
    principals.revoke_api_key(conn, tenants.acme.key_id)
    assert ask(client, tenants.acme.headers, etag=etag) == 401
    assert ask(client, {}, etag="*") == 401


def test_not_for_a_bad_question(client: FlaskClient, tenants: Tenants) -> None:
    assert ask(client, tenants.acme.headers, "?page=x", etag="*") == 400


def test_an_older_version_never_comes_back(conn: Connection, tenants: Tenants) -> None:
    """A restored backup goes on from the clock, past every version it gave out before."""

    def version() -> int:
        query = "SELECT version FROM inventories WHERE organization_id = %s"
        [found] = conn.execute(query, (tenants.acme.organization_id,)).fetchone() or [0]
        return found

    given_out = version()
    conn.execute("UPDATE inventories SET version = version - 1000")
    change_counters(conn, tenants.acme.organization_id, {}, images=0)
    assert version() > given_out


def test_counters_on_and_off_answer_alike(
    client: FlaskClient, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, tag for tag."""
    for number in range(60):
        score = None if number % 7 == 0 else number * 13 % 101
        tenants.acme.add_image(f"{('ghcr.io', 'quay.io')[number % 2]}/acme/i{number}", score)
    queries = [
        f"?{query}&limit={limit}&page={page}"
        for query in ("", "sort=name:asc", "sort=riskScore:desc", "sort=riskScore:asc", "grade=A,C", "registry=quay.io&sort=riskScore:desc", "riskScore=90", "search=i1", "search=none", "grade=D&search=i")
        for limit, page in ((7, 1), (7, 5), (7, 9), (50, 2), (200, 1), (9, 99))
    ]  # fmt: skip
    counted = [client.get(f"/api/images{q}", headers=tenants.acme.headers) for q in queries]
    counting = partial(store.list_images, use_counters=False)
    monkeypatch.setattr(store, "list_images", counting)
    windowed = [client.get(f"/api/images{q}", headers=tenants.acme.headers) for q in queries]
    for query, one, other in zip(queries, counted, windowed, strict=True):
        assert (one.status_code, one.data, one.headers["ETag"]) == (
            200,
            other.data,
            other.headers["ETag"],
        ), query
