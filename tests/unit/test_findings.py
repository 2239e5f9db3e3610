"""Deduplicating findings: their identity, the merged values and the order."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harborguard.model import Finding, Severity
from harborguard.reports.findings import (
    MAX_PACKAGE,
    MAX_TITLE,
    MAX_URL,
    MAX_VERSION,
    clip_title,
    clip_url,
    deduplicate_findings,
    drain,
    parse_epss,
    parse_score,
    parse_severity,
)

TEXT = st.none() | st.sampled_from(["", "a", "b"])
FINDINGS = st.lists(
    st.builds(
        Finding,
        vulnerability_id=st.sampled_from(["CVE-1", "CVE-2"]),
        package=st.sampled_from(["a", "b"]),
        installed_version=st.sampled_from(["", "1"]),
        severity=st.sampled_from(Severity),
        fixed_version=TEXT,
        cvss_score=st.none() | st.sampled_from([0.0, 5.5, 10.0]),
        epss=st.none() | st.sampled_from([0.0, 0.5]),
        kev=st.none() | st.booleans(),
        title=TEXT,
        url=TEXT,
        sources=st.sampled_from([(), ("grype",), ("trivy",), ("grype", "trivy")]),
    ),
    max_size=12,
)


def make_finding(**changes: object) -> Finding:
    return replace(Finding("CVE-1", "openssl", "1.1", Severity.LOW), **changes)


def test_duplicate_findings_are_merged_and_worst_is_first() -> None:
    low = make_finding(sources=("trivy",), title="Padding oracle", cvss_score=7.1)
    high = make_finding(sources=("grype",), severity=Severity.HIGH, fixed_version="1.2")
    other = make_finding(installed_version="3.0", severity=Severity.CRITICAL)
    merged = Finding(
        vulnerability_id="CVE-1",
        package="openssl",
        installed_version="1.1",
        severity=Severity.HIGH,
        fixed_version="1.2",
        cvss_score=7.1,
        title="Padding oracle",
        sources=("grype", "trivy"),
    )
    assert (other, merged) == deduplicate_findings([low, other, high])


@pytest.mark.parametrize(
    "change", [{"vulnerability_id": "CVE-2"}, {"package": "zlib"}, {"installed_version": "2"}]
)
def test_findings_with_another_vulnerability_package_or_version_are_distinct(
    change: dict[str, str],
) -> None:
    assert len(deduplicate_findings([make_finding(), make_finding(**change)])) == 2


@pytest.mark.parametrize(
    "change",
    [{"fixed_version": "2"}, {"title": "x"}, {"url": "x"}, {"sources": ("x",)}, {"cvss_score": 1}],
)
def test_findings_that_differ_only_in_other_fields_are_merged(change: dict[str, object]) -> None:
    assert len(deduplicate_findings([make_finding(), make_finding(**change)])) == 1


def test_merged_sources_are_at_most_sixteen_in_any_order() -> None:
    findings = [make_finding(sources=(f"scanner-{number:05}",)) for number in range(60_000)]
    [merged] = deduplicate_findings(findings)
    assert merged.sources == tuple(f"scanner-{number:05}" for number in range(16))
    assert deduplicate_findings(reversed(findings)) == (merged,)


@pytest.mark.parametrize(
    ("field", "length"), [("package", MAX_PACKAGE), ("installed_version", MAX_VERSION)]
)
def test_values_that_differ_only_where_clipped_are_distinct(field: str, length: int) -> None:
    long = [make_finding(**{field: "x" * length + end}) for end in ("a", "b", "b")]
    expected = make_finding(**{field: "x" * length})
    assert deduplicate_findings(long) == (expected, expected)
    stored = [make_finding(**{field: text}) for text in ("a\0", "a\ufffd")]
    assert deduplicate_findings(stored) == (make_finding(**{field: "a\ufffd"}),) * 2


def test_identity_compares_fields_not_joined_text() -> None:
    one = make_finding(package="a", installed_version="b/c")
    other = make_finding(package="a/b", installed_version="c")
    assert len(deduplicate_findings([one, other])) == 2


def test_findings_are_ordered_by_severity_then_identity() -> None:
    listed = [
        make_finding(severity=Severity.UNKNOWN, vulnerability_id="CVE-0"),
        make_finding(severity=Severity.INFO, vulnerability_id="CVE-0", package="i"),
        make_finding(severity=Severity.NEGLIGIBLE, vulnerability_id="CVE-0", package="n"),
        make_finding(severity=Severity.LOW, vulnerability_id="CVE-3"),
        make_finding(severity=Severity.MEDIUM, vulnerability_id="CVE-3", package="m"),
        make_finding(severity=Severity.HIGH, vulnerability_id="CVE-3", package="h"),
        make_finding(severity=Severity.CRITICAL, vulnerability_id="CVE-3", package="b"),
        make_finding(severity=Severity.CRITICAL, package="b", installed_version="2"),
        make_finding(severity=Severity.CRITICAL, package="b", installed_version="10"),
        make_finding(severity=Severity.CRITICAL, package="a", installed_version="3"),
    ]
    assert tuple(reversed(listed)) == deduplicate_findings(listed)


def test_score_of_zero_replaces_missing_score() -> None:
    [merged] = deduplicate_findings([make_finding(), make_finding(cvss_score=0.0)])
    assert merged.cvss_score == 0.0


@pytest.mark.parametrize(
    ("reported", "merged"),
    [
        ([None, None], None),
        ([None, False], False),
        ([False, None, True], True),
        ([True, False], True),
    ],
)
def test_known_exploit_of_any_duplicate_counts(
    reported: list[bool | None], merged: bool | None
) -> None:
    [finding] = deduplicate_findings([make_finding(kev=kev) for kev in reported])
    assert finding.kev is merged


def test_merged_epss_is_the_highest() -> None:
    [merged] = deduplicate_findings([make_finding(epss=epss) for epss in (None, 0.1, 0.4, 0.0)])
    assert merged.epss == 0.4


def test_merged_texts_come_from_worst_finding() -> None:
    low = make_finding(title="low", url="low", fixed_version="1")
    high = make_finding(title="high", severity=Severity.HIGH, fixed_version="2")
    [merged] = deduplicate_findings([low, high])
    assert (merged.title, merged.url, merged.fixed_version) == ("high", "low", "2")


@pytest.mark.parametrize("field", ["fixed_version", "title", "url"])
def test_merged_text_does_not_depend_on_order(field: str) -> None:
    one, other = make_finding(**{field: "a"}), make_finding(**{field: "b"})
    assert deduplicate_findings([one, other]) == deduplicate_findings([other, one]) == (one,)


@given(FINDINGS, st.randoms())
def test_shuffled_findings_give_same_result(findings: list[Finding], random: object) -> None:
    shuffled = findings.copy()
    random.shuffle(shuffled)  # pyright: ignore[reportAttributeAccessIssue]
    assert deduplicate_findings(findings) == deduplicate_findings(shuffled)


@given(FINDINGS)
def test_each_identity_is_listed_once_with_its_worst_severity(findings: list[Finding]) -> None:
    ranks = list(Severity)
    worst: dict[tuple[str, str, str], Severity] = {}
    for f in findings:
        key = (f.vulnerability_id, f.package, f.installed_version)
        worst[key] = min(worst.get(key, f.severity), f.severity, key=ranks.index)
    distinct = deduplicate_findings(findings)
    listed = {(f.vulnerability_id, f.package, f.installed_version): f.severity for f in distinct}
    assert len(listed) == len(distinct)
    assert worst == listed


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("CRITICAL", Severity.CRITICAL),
        ("Critical", Severity.CRITICAL),
        (" high ", Severity.HIGH),
        ("medium", Severity.MEDIUM),
        ("LOW", Severity.LOW),
        ("Negligible", Severity.NEGLIGIBLE),
        ("INFO", Severity.INFO),
        ("Informational", Severity.INFO),
        ("NONE", Severity.INFO),
        ("Important", Severity.HIGH),
        ("MODERATE", Severity.MEDIUM),
        ("Crit", Severity.CRITICAL),
        ("CRITICAL\u200b", Severity.CRITICAL),
        ("\ufeffHIGH", Severity.HIGH),
        ("\u00a0me\u00addium\u00a0\r\n", Severity.MEDIUM),
        ("\u202elow\u202c \x00", Severity.LOW),
        ("not critical", Severity.UNKNOWN),
        ("Severe", Severity.UNKNOWN),
        ("Critical.", Severity.UNKNOWN),
        ("high" + "x" * 1000, Severity.UNKNOWN),
        ("UNKNOWN", Severity.UNKNOWN),
        ("", Severity.UNKNOWN),
        (None, Severity.UNKNOWN),
        ("Severity.HIGH", Severity.UNKNOWN),
        ("10", Severity.UNKNOWN),
    ],
)
def test_severity_in_any_case_is_parsed(word: str | None, severity: Severity) -> None:
    assert severity is parse_severity(word)


@pytest.mark.parametrize(
    ("reported", "score"),
    [(None, None), (0.0, 0.0), (7, 7), (10.0, 10.0), (10.1, None), (-0.1, None), (1e9, None)],
)
def test_score_out_of_range_is_none(reported: float | None, score: float | None) -> None:
    assert score == parse_score(reported)


@pytest.mark.parametrize(
    ("reported", "score"),
    [(1e-50, 0.0), (5e-324, 0.0), (0.04, 0.0), (7.449, 7.4), (9.96, 10.0), (-0.0, 0.0)],
)
def test_score_has_one_decimal_and_no_negative_zero(reported: float, score: float) -> None:
    assert str(parse_score(reported)) == str(score)


@pytest.mark.parametrize(
    ("reported", "epss"), [(None, None), (0, 0), (0.5, 0.5), (1, 1), (1.01, None), (-0.1, None)]
)
def test_epss_out_of_range_is_none(reported: float | None, epss: float | None) -> None:
    assert epss == parse_epss(reported)


def test_epss_has_no_negative_zero() -> None:
    assert str(parse_epss(-0.0)) == "0.0"


def test_long_title_and_url_are_clipped() -> None:
    assert clip_title("x" * 10_000) == "x" * MAX_TITLE
    assert clip_url("x" * 10_000) == "x" * MAX_URL
    assert clip_title("") is clip_title(None) is clip_url("") is clip_url(None) is None


def test_consumed_entries_are_removed_from_the_list() -> None:
    entries = [1, 2, 3]
    assert [(entry, list(entries)) for entry in drain(entries)] == [
        (1, [3, 2]),
        (2, [3]),
        (3, []),
    ]
