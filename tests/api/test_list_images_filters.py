"""GET /api/images: what each filter keeps, what it leaves out, and what it refuses."""

import pytest
from flask.testing import FlaskClient

from tests.support.listing import ask, names, refusal
from tests.support.tenants import Tenants

SCORES = {"a0": 0, "a24": 24, "b25": 25, "b49": 49, "c50": 50, "c74": 74, "d75": 75, "d100": 100}


@pytest.fixture
def graded(tenants: Tenants) -> Tenants:
    """An image at each bound of each grade, and one never scanned."""
    for name, score in SCORES.items():
        tenants.acme.add_image(f"ghcr.io/acme/{name}", score)
    tenants.acme.add_image("ghcr.io/acme/new")
    return tenants


def test_it_works(client: FlaskClient, graded: Tenants) -> None:
    found = names(
        client,
        graded.acme,
        registry="ghcr.io",
        riskScore=20,
        grade="A,B",
        search="4",
        sort="name:asc",
    )
    assert found == ["a24", "b49"]


@pytest.mark.parametrize(
    ("grade", "expected"),
    [
        ("A", ["a0", "a24"]),
        ("D", ["d100", "d75"]),
        ("A,B", ["a0", "a24", "b25", "b49"]),
        ("A,C", ["a0", "a24", "c50", "c74"]),
        ("A,D", ["a0", "a24", "d100", "d75"]),
        ("B,D", ["b25", "b49", "d100", "d75"]),
        ("A,B,D", ["a0", "a24", "b25", "b49", "d100", "d75"]),
        ("A,B,C,D", sorted(SCORES)),
        (" d ,, a,A ", ["a0", "a24", "d100", "d75"]),
        ("", [*sorted(SCORES), "new"]),
        (" , ,", [*sorted(SCORES), "new"]),
    ],
)
def test_grade(client: FlaskClient, graded: Tenants, grade: str, expected: list[str]) -> None:
    assert names(client, graded.acme, grade=grade, sort="name:asc") == expected


@pytest.mark.parametrize("grade", ["E", "F", "A,E", "AB", "А", "A;B", "1", "null", "A\x00"])
def test_grade_refuses_other_letters(client: FlaskClient, graded: Tenants, grade: str) -> None:
    told = refusal(client, graded.acme, f"grade={grade}".replace("\x00", "%00"))
    assert told == {"grade": "must be a comma-separated list of A, B, C, D"}


@pytest.mark.parametrize(
    ("least", "expected"),
    [
        ("0", sorted(SCORES)),
        ("00", sorted(SCORES)),
        ("25", ["b25", "b49", "c50", "c74", "d100", "d75"]),
        ("075", ["d100", "d75"]),
        ("76", ["d100"]),
        ("100", ["d100"]),
    ],
)
def test_risk_score_is_the_least(
    client: FlaskClient, graded: Tenants, least: str, expected: list[str]
) -> None:
    assert names(client, graded.acme, riskScore=least, sort="name:asc") == expected


NOT_INTEGERS = ["", "%20", "%207%20", "%2B5", "-0", "-1", "1_0", "1e3", "0x1", "1.0", "%D9%A3", "%EF%BC%91", "abc", "1;2", "%00", "1%0A", "9" * 5000, "0" * 30 + "x"]  # fmt: skip


@pytest.mark.parametrize("value", [*NOT_INTEGERS, "101", str(2**31), str(2**63)])
def test_risk_score_refuses(client: FlaskClient, graded: Tenants, value: str) -> None:
    told = refusal(client, graded.acme, f"riskScore={value}")
    assert told == {"riskScore": "must be an integer from 0 to 100"}


@pytest.mark.parametrize("value", [*NOT_INTEGERS, "0", "00", "201", "10000"])
def test_limit_refuses(client: FlaskClient, graded: Tenants, value: str) -> None:
    told = refusal(client, graded.acme, f"limit={value}")
    assert told == {"limit": "must be an integer from 1 to 200"}


@pytest.mark.parametrize("value", [*NOT_INTEGERS, "0", "00", str(2**63)])
def test_page_refuses(client: FlaskClient, graded: Tenants, value: str) -> None:
    told = refusal(client, graded.acme, f"page={value}")
    assert told == {"page": "must be an integer from 1 to 9223372036854775807"}


@pytest.mark.parametrize(
    ("page", "limit"), [(2**63 - 1, 2), (2**63 - 1, 200), (2**62 + 1, 2), (46116860184273881, 200)]
)
def test_page_refuses_what_cannot_be_counted(
    client: FlaskClient, graded: Tenants, page: int, limit: int
) -> None:
    told = refusal(client, graded.acme, f"page={page}&limit={limit}")
    assert told == {"page": "must not begin past row 2^63-1"}


@pytest.mark.parametrize(
    ("page", "limit"),
    [(2**63 - 1, 1), (2**62, 2), (46116860184273880, 200), (2**31, 50), (2, 50), ("0002", "050")],
)
def test_any_other_page_past_the_end_is_empty(
    client: FlaskClient, graded: Tenants, page: int | str, limit: int | str
) -> None:
    body = ask(client, graded.acme, page=page, limit=limit)
    pages = -(-9 // int(limit))
    assert body["data"] == []
    assert body["meta"] == {
        "page": int(page),
        "pageSize": int(limit),
        "total": 9,
        "totalPages": pages,
        "hasNext": False,
        "hasPrev": True,
    }
    assert body["links"] == {
        "self": f"/api/images?page={int(page)}&limit={int(limit)}",
        "prev": f"/api/images?page={pages}&limit={int(limit)}",
    }


def test_past_the_end_of_nothing_there_is_no_way_back(
    client: FlaskClient, tenants: Tenants
) -> None:
    body = ask(client, tenants.acme, page=3, search="nothing")
    assert body["meta"] == {
        "page": 3,
        "pageSize": 50,
        "total": 0,
        "totalPages": 0,
        "hasNext": False,
        "hasPrev": False,
    }
    assert body["links"] == {"self": "/api/images?page=3&limit=50&search=nothing"}


@pytest.fixture
def hosted(tenants: Tenants) -> Tenants:
    """Registries whose names and hosts cross: one's name is another's host."""
    tenants.acme.add_registry("ghcr.io", "GitHub Packages")
    tenants.acme.add_registry("quay.io", "Quay")
    tenants.acme.add_registry("mirror.test:5000", "quay.io")
    for host in ("ghcr.io", "quay.io", "mirror.test:5000"):
        tenants.acme.add_image(f"{host}/acme/{host[:4]}", 10)
    tenants.globex.add_image("ghcr.io/globex/secret", 10)
    return tenants


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        ("ghcr.io", ["ghcr"]),
        ("GHCR.IO", ["ghcr"]),
        ("github packages", ["ghcr"]),
        ("GitHub Packages", ["ghcr"]),
        ("quay.io", ["mirr", "quay"]),
        ("Quay", ["quay"]),
        ("mirror.test:5000", ["mirr"]),
        ("github", []),
        ("ghcr.io ", []),
        ("unknown", []),
        ("%", []),
        ("", ["ghcr", "mirr", "quay"]),
        ("   ", ["ghcr", "mirr", "quay"]),
    ],
)
def test_registry(client: FlaskClient, hosted: Tenants, registry: str, expected: list[str]) -> None:
    assert sorted(names(client, hosted.acme, registry=registry)) == expected


def test_registry_by_id_is_exact(client: FlaskClient, hosted: Tenants) -> None:
    registry_id = hosted.acme.add_registry("ghcr.io")
    assert names(client, hosted.acme, registry=registry_id) == ["ghcr"]
    assert names(client, hosted.acme, registry=registry_id.upper()) == []


def test_another_organizations_registry_is_unknown(client: FlaskClient, hosted: Tenants) -> None:
    foreign = hosted.globex.add_registry("ghcr.io")
    seen = ask(client, hosted.acme, registry=foreign)
    unknown = ask(client, hosted.acme, registry="x" * len(foreign))
    assert seen["data"] == unknown["data"] == []
    assert seen["meta"] == unknown["meta"]


def test_a_bound_key_sees_its_registry_only(client: FlaskClient, hosted: Tenants) -> None:
    registry_id = hosted.acme.add_registry("ghcr.io")
    headers = {"X-API-Key": hosted.acme.add_key(registry_id=registry_id)}
    for query, total in (("", 1), ("?registry=quay.io", 0), ("?registry=ghcr.io", 1), ("?page=2", 1)):  # fmt: skip
        body = client.get(f"/api/images{query}", headers=headers).json
        assert body is not None
        assert body["meta"]["total"] == total


@pytest.fixture
def named(tenants: Tenants) -> Tenants:
    """Names that LIKE could misread."""
    for name in ("a_b", "axb", "a-b", "api", "rapid"):
        tenants.acme.add_image(f"ghcr.io/acme/{name}", 10)
    return tenants


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("api", ["api", "rapid"]),
        ("API", ["api", "rapid"]),
        ("/api", ["api"]),
        ("a_b", ["a_b"]),
        ("_", ["a_b"]),
        ("%", []),
        ("\\", []),
        ("a\\_b", []),
        ("api ", []),
        (" api", []),
        ("GHCR.IO/acme/AXB", ["axb"]),
        ("ghcr.io/acme/api-longer", []),
        ("аpi", []),
        ("\u212a", []),
        ("İ", []),
        ("😀", []),
        ("", ["a-b", "a_b", "api", "axb", "rapid"]),
        ("   ", ["a-b", "a_b", "api", "axb", "rapid"]),
        ("'; DROP TABLE images; --", []),
        ("%(organization_id)s", []),
        ("{}", []),
        ("$1", []),
    ],
)
def test_search(client: FlaskClient, named: Tenants, search: str, expected: list[str]) -> None:
    assert names(client, named.acme, search=search, sort="name:asc") == expected


def test_the_kelvin_sign_is_not_a_k(client: FlaskClient, tenants: Tenants) -> None:
    tenants.acme.add_image("ghcr.io/acme/kube")
    assert names(client, tenants.acme, search="k") == ["kube"]
    assert names(client, tenants.acme, search="\u212a") == []


@pytest.mark.parametrize("name", ["search", "registry"])
@pytest.mark.parametrize("value", ["%00", "a%00b", "%0A", "%09", "%7F", "%C2%85", "%1b[31m"])
def test_control_characters_are_refused(
    client: FlaskClient, named: Tenants, name: str, value: str
) -> None:
    told = refusal(client, named.acme, f"{name}={value}")
    assert told == {name: "must not contain control characters"}


@pytest.mark.parametrize("name", ["search", "registry"])
def test_text_is_bounded(client: FlaskClient, named: Tenants, name: str) -> None:
    assert ask(client, named.acme, **{name: "😀" * 200})["data"] == []
    told = refusal(client, named.acme, f"{name}={'x' * 201}")
    assert told == {name: "must be at most 200 characters"}


@pytest.mark.parametrize("value", ["%ff", "%ed%a0%80", "%c3", "%"])
def test_undecodable_bytes_match_nothing(client: FlaskClient, named: Tenants, value: str) -> None:
    response = client.get(f"/api/images?search={value}", headers=named.acme.headers)
    assert (response.status_code, response.json["data"]) == (200, [])


@pytest.mark.parametrize("name", ["page", "limit", "registry", "riskScore", "grade", "search", "sort"])  # fmt: skip
def test_a_known_parameter_may_be_given_once(
    client: FlaskClient, named: Tenants, name: str
) -> None:
    told = refusal(client, named.acme, f"{name}=1&{name}=1")
    assert told == {name: "given more than once; separate values with a comma"}


def test_unknown_parameters_are_ignored(client: FlaskClient, named: Tenants) -> None:
    query = "Page=2&GRADE=Z&organization_id=x&orgId=x&page[]=4&foo=1&foo=2&limit=2"
    response = client.get(f"/api/images?{query}", headers=named.acme.headers)
    assert response.json["links"]["self"] == "/api/images?page=1&limit=2"


def test_every_bad_parameter_is_named(client: FlaskClient, named: Tenants) -> None:
    told = refusal(client, named.acme, "page=x&limit=0&riskScore=-1&grade=E&search=%00&registry=%01")  # fmt: skip
    assert set(told) == {"page", "limit", "riskScore", "grade", "search", "registry"}


def test_a_semicolon_separates_nothing(client: FlaskClient, named: Tenants) -> None:
    assert refusal(client, named.acme, "page=1;limit=2") == {
        "page": "must be an integer from 1 to 9223372036854775807"
    }


def test_filters_are_echoed_as_understood(client: FlaskClient, named: Tenants) -> None:
    query = "sort=riskScore:desc&search=A b%26%C3%A9&grade=b, a,,B&riskScore=007&registry=GHCR.io&limit=020&page=01"  # fmt: skip
    response = client.get(f"/api/images?{query}", headers=named.acme.headers)
    assert response.json["links"] == {
        "self": "/api/images?page=1&limit=20&registry=GHCR.io&riskScore=7&grade=A%2CB"
        "&search=A%20b%26%C3%A9&sort=riskScore%3Adesc"
    }


def test_what_was_not_understood_is_not_echoed(client: FlaskClient, named: Tenants) -> None:
    query = "sort=name&search=%20&grade=,&registry="
    response = client.get(f"/api/images?{query}", headers=named.acme.headers)
    assert response.json["links"] == {"self": "/api/images?page=1&limit=50"}
