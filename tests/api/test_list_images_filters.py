"""GET /api/images: what each filter matches, what it rejects, and how links contain it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from harborguard.api.queries import ListImagesQuery
from tests.support.listing import list_images, list_issues, list_names
from tests.support.tenants import Tenants

SCORES = {"a0": 0, "a24": 24, "b25": 25, "b49": 49, "c50": 50, "c74": 74, "d75": 75, "d100": 100}
PARAMETERS = [field.data_key or name for name, field in ListImagesQuery().load_fields.items()]
# Each filter once: parameter, value, the names that match it in `graded`, its value in links.
FILTERS = [
    ("registry", "GHCR.io", [*sorted(SCORES), "new"], "GHCR.io"),
    ("riskScore", "074", ["c74", "d100", "d75"], "74"),
    ("grade", "d, b,,B", ["b25", "b49", "d100", "d75"], "B%2CD"),
    ("search", "ME/A", ["a0", "a24"], "ME%2FA"),
    ("cveId", "cve-2026-1", ["a0", "c50"], "cve-2026-1"),
    ("package", "OpenSSL", ["a0"], "OpenSSL"),
    ("fixable", "true", ["c50"], "true"),
    ("severity", "low, Critical,,", ["d100", "d75"], "CRITICAL%2CLOW"),
    ("tag", "v1 b", ["new"], "v1%20b"),
    ("scanned", "Never", ["new", "x"], "never"),
    # It has no effect without `scanned`.
    ("staleDays", "007", [*sorted(SCORES), "new", "x"], "7"),
    ("createdAfter", "2026-01-02T01:00:00+01:00", ["b25"], "2026-01-02T00%3A00%3A00Z"),
    ("scannedAfter", "2026-05-01", ["b49"], "2026-05-01T00%3A00%3A00Z"),
    ("scannedBefore", "2026-04-26T14:22:11Z", ["c74"], "2026-04-26T14%3A22%3A11Z"),
]
# Columns and findings for these filters.
COLUMNS: dict[str, dict[str, Any]] = {
    "b25": {"created_at": datetime(2026, 1, 2, tzinfo=UTC)},
    "b49": {"last_scanned_at": datetime(2026, 5, 1, tzinfo=UTC)},
    "c74": {"last_scanned_at": datetime(2026, 4, 25, tzinfo=UTC)},
    "d75": {"critical": 1},
    "d100": {"low": 1},
}
FINDINGS: dict[str, list[tuple[str, str, str | None]]] = {
    "a0": [("CVE-2026-1", "openssl", None), ("CVE-2026-2", "zlib", None)],
    "c50": [("CVE-2026-1", "zlib", None), ("CVE-2026-3", "zlib", "2")],
}


@pytest.fixture
def graded(tenants: Tenants) -> Tenants:
    """Add an image at each limit of each grade, and one never scanned."""
    for name, score in SCORES.items():
        image_id = tenants.acme.add_image(f"ghcr.io/acme/{name}", score, **COLUMNS.get(name, {}))
        if name in FINDINGS:
            tenants.acme.add_findings(image_id, FINDINGS[name])
    tenants.acme.add_tag(tenants.acme.add_image("ghcr.io/acme/new"), "v1 b")
    return tenants


@pytest.fixture
def graded_and_unmatched(graded: Tenants) -> Tenants:
    """Add to `graded` an image that no row of FILTERS matches: of another registry, unscanned."""
    graded.acme.add_image("quay.io/other/x")
    return graded


@pytest.mark.parametrize(("name", "value", "expected", "link"), FILTERS)
def test_filter_matches_and_is_normalized_in_links(
    client: FlaskClient,
    graded_and_unmatched: Tenants,
    name: str,
    value: str,
    expected: list[str],
    link: str,
) -> None:
    tenant = graded_and_unmatched.acme
    body = list_images(client, tenant, **{name: value}, sort="name:asc")
    assert [row["name"].rpartition("/")[2] for row in body["data"]] == expected
    assert body["meta"]["total"] == len(expected)
    assert body["links"]["self"] == (f"/api/images?page=1&limit=50&{name}={link}&sort=name%3Aasc")
    summary = client.get("/api/images/summary", query_string={name: value}, headers=tenant.headers)
    assert summary.json["data"]["total"] == len(expected)


def test_every_filter_has_a_row_in_the_table() -> None:
    assert [name for name, *_ in FILTERS] == [
        name for name in PARAMETERS if name not in {"page", "limit", "sort"}
    ]


def test_combined_filters_must_all_match(client: FlaskClient, graded: Tenants) -> None:
    names = list_names(
        client,
        graded.acme,
        registry="ghcr.io",
        riskScore=20,
        grade="A,B",
        search="4",
        sort="name:asc",
    )
    assert names == ["a24", "b49"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"cveId": "CVE-2026-1", "package": "zlib"}, ["c50"]),
        ({"cveId": "CVE-2026-2", "package": "openssl"}, []),
        ({"cveId": "CVE-2026-1", "fixable": "true"}, []),
        ({"cveId": "CVE-2026-3", "fixable": "true"}, ["c50"]),
        ({"cveId": "CVE-2026-3", "fixable": "false"}, []),
        ({"package": "zlib", "fixable": "false"}, ["a0", "c50"]),
        ({"fixable": "false"}, ["a0", "c50"]),
        ({"cveId": "CVE-2026"}, []),
        ({"cveId": "%"}, []),
        ({"package": "ssl"}, []),
        ({"cveId": "CVE-2026-1", "search": "a0"}, ["a0"]),
        ({"cveId": "CVE-2026-1", "grade": "C", "registry": "ghcr.io"}, ["c50"]),
        ({"cveId": "CVE-2026-1", "sort": "riskScore:desc"}, ["c50", "a0"]),
        ({"tag": "V1 b"}, []),
        ({"tag": "v1"}, []),
        ({"severity": ","}, [*sorted(SCORES), "new"]),
        ({"cveId": " ", "package": "", "tag": " "}, [*sorted(SCORES), "new"]),
    ],
)
def test_filters_on_findings_select_one_finding(
    client: FlaskClient, graded: Tenants, query: dict[str, str], expected: list[str]
) -> None:
    assert list_names(client, graded.acme, **{"sort": "name:asc", **query}) == expected


def test_scanned_compares_the_newest_finished_scan_with_the_days(
    client: FlaskClient, tenants: Tenants
) -> None:
    now = datetime.now(UTC)
    for days in (0, 9, 29, 31, 400):
        scanned_at = now - timedelta(days)
        tenants.acme.add_image(f"ghcr.io/acme/{days}", 10, last_scanned_at=scanned_at)
    tenants.acme.add_image("ghcr.io/acme/never")

    def found(**query: object) -> set[str]:
        return set(list_names(client, tenants.acme, **query))

    assert found(scanned="never") == {"never"}
    assert found(scanned="stale") == {"31", "400"}
    assert found(scanned="FRESH") == {"0", "9", "29"}
    assert found(scanned="stale", staleDays=10) == {"29", "31", "400"}
    assert found(scanned="stale", staleDays=3650) == set()
    assert found(scanned="fresh", staleDays=1) == {"0"}
    assert found(scanned="never", staleDays=1) == {"never"}


@pytest.mark.parametrize(
    ("query", "path", "message"),
    [
        ("severity=unknown", "severity", "must be a comma-separated list of CRITICAL, HIGH, MEDIUM, LOW"),
        ("fixable=yes", "fixable", "must be true or false"),
        ("scanned=", "scanned", "must be one of never, stale, fresh"),
        ("scanned=never,stale", "scanned", "must be one of never, stale, fresh"),
        ("staleDays=0", "staleDays", "must be an integer from 1 to 3650"),
        ("staleDays=3651", "staleDays", "must be an integer from 1 to 3650"),
        *(
            (f"{name}=2026-13-01", name, "must be a time like 2026-04-26T14:22:11Z or a date like 2026-04-26")
            for name in ("createdAfter", "scannedAfter", "scannedBefore")
        ),
    ],
)  # fmt: skip
def test_invalid_filter_returns_400(
    client: FlaskClient, graded: Tenants, query: str, path: str, message: str
) -> None:
    assert list_issues(client, graded.acme, query) == {path: message}


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
def test_grade_matches_any_of_the_letters(
    client: FlaskClient, graded: Tenants, grade: str, expected: list[str]
) -> None:
    assert list_names(client, graded.acme, grade=grade, sort="name:asc") == expected


@pytest.mark.parametrize("grade", ["E", "F", "A,E", "AB", "А", "A;B", "1", "null", "A\x00"])
def test_grade_with_another_letter_returns_400(
    client: FlaskClient, graded: Tenants, grade: str
) -> None:
    issues = list_issues(client, graded.acme, f"grade={grade}".replace("\x00", "%00"))
    assert issues == {"grade": "must be a comma-separated list of A, B, C, D"}


@pytest.mark.parametrize(
    ("lowest", "expected"),
    [
        ("0", sorted(SCORES)),
        ("00", sorted(SCORES)),
        ("25", ["b25", "b49", "c50", "c74", "d100", "d75"]),
        ("075", ["d100", "d75"]),
        ("76", ["d100"]),
        ("100", ["d100"]),
    ],
)
def test_risk_score_is_an_inclusive_lower_bound(
    client: FlaskClient, graded: Tenants, lowest: str, expected: list[str]
) -> None:
    assert list_names(client, graded.acme, riskScore=lowest, sort="name:asc") == expected


NOT_INTEGERS = ["", "%20", "%207%20", "%2B5", "-0", "-1", "1_0", "1e3", "0x1", "1.0", "%D9%A3", "%EF%BC%91", "abc", "1;2", "%00", "1%0A", "9" * 5000, "0" * 30 + "x"]  # fmt: skip


@pytest.mark.parametrize("value", [*NOT_INTEGERS, "101", str(2**31), str(2**63)])
def test_risk_score_out_of_bounds_returns_400(
    client: FlaskClient, graded: Tenants, value: str
) -> None:
    issues = list_issues(client, graded.acme, f"riskScore={value}")
    assert issues == {"riskScore": "must be an integer from 0 to 100"}


@pytest.mark.parametrize("value", [*NOT_INTEGERS, "0", "00", "201", "10000"])
def test_limit_out_of_bounds_returns_400(client: FlaskClient, graded: Tenants, value: str) -> None:
    issues = list_issues(client, graded.acme, f"limit={value}")
    assert issues == {"limit": "must be an integer from 1 to 200"}


@pytest.mark.parametrize("value", [*NOT_INTEGERS, "0", "00", str(2**63)])
def test_page_out_of_bounds_returns_400(client: FlaskClient, graded: Tenants, value: str) -> None:
    issues = list_issues(client, graded.acme, f"page={value}")
    assert issues == {"page": "must be an integer from 1 to 9223372036854775807"}


@pytest.mark.parametrize(
    ("page", "limit"), [(2**63 - 1, 2), (2**63 - 1, 200), (2**62 + 1, 2), (46116860184273881, 200)]
)
def test_page_with_an_offset_beyond_bigint_returns_400(
    client: FlaskClient, graded: Tenants, page: int, limit: int
) -> None:
    issues = list_issues(client, graded.acme, f"page={page}&limit={limit}")
    assert issues == {"page": "must not begin after row 2^63-1"}


@pytest.mark.parametrize(
    ("page", "limit"),
    [(2**63 - 1, 1), (2**62, 2), (46116860184273880, 200), (2**31, 50), (2, 50), ("0002", "050")],
)
def test_page_past_the_end_is_empty(
    client: FlaskClient, graded: Tenants, page: int | str, limit: int | str
) -> None:
    body = list_images(client, graded.acme, page=page, limit=limit)
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


def test_page_past_the_end_of_an_empty_list_has_no_prev(
    client: FlaskClient, tenants: Tenants
) -> None:
    body = list_images(client, tenants.acme, page=3, search="nothing")
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
    """Add registries where the name of one is the host of another."""
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
def test_registry_matches_host_or_name_in_any_case(
    client: FlaskClient, hosted: Tenants, registry: str, expected: list[str]
) -> None:
    assert sorted(list_names(client, hosted.acme, registry=registry)) == expected


def test_registry_id_is_case_sensitive(client: FlaskClient, hosted: Tenants) -> None:
    registry_id = hosted.acme.add_registry("ghcr.io")
    assert list_names(client, hosted.acme, registry=registry_id) == ["ghcr"]
    assert list_names(client, hosted.acme, registry=registry_id.upper()) == []


def test_registry_of_another_organization_matches_nothing(
    client: FlaskClient, hosted: Tenants
) -> None:
    foreign = hosted.globex.add_registry("ghcr.io")
    body = list_images(client, hosted.acme, registry=foreign)
    unknown = list_images(client, hosted.acme, registry="x" * len(foreign))
    assert body["data"] == unknown["data"] == []
    assert body["meta"] == unknown["meta"]


def test_key_limited_to_a_registry_lists_only_its_images(
    client: FlaskClient, hosted: Tenants
) -> None:
    registry_id = hosted.acme.add_registry("ghcr.io")
    headers = {"X-API-Key": hosted.acme.add_key(registry_id=registry_id)}
    for query, total in (("", 1), ("?registry=quay.io", 0), ("?registry=ghcr.io", 1), ("?page=2", 1)):  # fmt: skip
        body = client.get(f"/api/images{query}", headers=headers).json
        assert body is not None
        assert body["meta"]["total"] == total


@pytest.fixture
def named(tenants: Tenants) -> Tenants:
    """Add names that differ in the wildcards of LIKE."""
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
def test_search_is_a_case_insensitive_substring(
    client: FlaskClient, named: Tenants, search: str, expected: list[str]
) -> None:
    assert list_names(client, named.acme, search=search, sort="name:asc") == expected


def test_search_with_the_kelvin_sign_does_not_match_k(
    client: FlaskClient, tenants: Tenants
) -> None:
    tenants.acme.add_image("ghcr.io/acme/kube")
    assert list_names(client, tenants.acme, search="k") == ["kube"]
    assert list_names(client, tenants.acme, search="\u212a") == []


@pytest.mark.parametrize("name", ["search", "registry"])
@pytest.mark.parametrize("value", ["%00", "a%00b", "%0A", "%09", "%7F", "%C2%85", "%1b[31m"])
def test_text_with_control_characters_returns_400(
    client: FlaskClient, named: Tenants, name: str, value: str
) -> None:
    issues = list_issues(client, named.acme, f"{name}={value}")
    assert issues == {name: "must not contain control characters"}


@pytest.mark.parametrize("name", ["search", "registry"])
def test_text_longer_than_200_characters_returns_400(
    client: FlaskClient, named: Tenants, name: str
) -> None:
    assert list_images(client, named.acme, **{name: "😀" * 200})["data"] == []
    issues = list_issues(client, named.acme, f"{name}={'x' * 201}")
    assert issues == {name: "must be at most 200 characters"}


@pytest.mark.parametrize("value", ["%ff", "%ed%a0%80", "%c3", "%"])
def test_search_with_invalid_utf8_matches_nothing(
    client: FlaskClient, named: Tenants, value: str
) -> None:
    response = client.get(f"/api/images?search={value}", headers=named.acme.headers)
    assert (response.status_code, response.json["data"]) == (200, [])


@pytest.mark.parametrize("name", PARAMETERS)
def test_known_parameter_given_twice_returns_400(
    client: FlaskClient, named: Tenants, name: str
) -> None:
    issues = list_issues(client, named.acme, f"{name}=1&{name}=1")
    assert issues == {name: "given more than once; separate values with a comma"}


def test_unknown_parameters_are_ignored(client: FlaskClient, named: Tenants) -> None:
    query = "Page=2&GRADE=Z&organization_id=x&orgId=x&page[]=4&foo=1&foo=2&limit=2"
    response = client.get(f"/api/images?{query}", headers=named.acme.headers)
    assert response.json["links"]["self"] == "/api/images?page=1&limit=2"


def test_every_invalid_parameter_has_an_issue(client: FlaskClient, named: Tenants) -> None:
    issues = list_issues(client, named.acme, "page=x&limit=0&riskScore=-1&grade=E&search=%00&registry=%01")  # fmt: skip
    assert set(issues) == {"page", "limit", "riskScore", "grade", "search", "registry"}


def test_semicolon_does_not_separate_parameters(client: FlaskClient, named: Tenants) -> None:
    assert list_issues(client, named.acme, "page=1;limit=2") == {
        "page": "must be an integer from 1 to 9223372036854775807"
    }


def test_links_contain_normalized_filters(client: FlaskClient, named: Tenants) -> None:
    query = "sort=riskScore:desc&search=A b%26%C3%A9&grade=b, a,,B&riskScore=007&registry=GHCR.io&limit=020&page=01"  # fmt: skip
    response = client.get(f"/api/images?{query}", headers=named.acme.headers)
    assert response.json["links"] == {
        "self": "/api/images?page=1&limit=20&registry=GHCR.io&riskScore=7&grade=A%2CB"
        "&search=A%20b%26%C3%A9&sort=riskScore%3Adesc"
    }


def test_links_do_not_contain_blank_or_unknown_values(client: FlaskClient, named: Tenants) -> None:
    query = "sort=name&search=%20&grade=,&registry="
    response = client.get(f"/api/images?{query}", headers=named.acme.headers)
    assert response.json["links"] == {"self": "/api/images?page=1&limit=50"}
