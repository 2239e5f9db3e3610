"""Reading a scan from a report: identity, time, counts, score and grade."""

import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harborguard.errors import (
    HarborGuardError,
    InvalidReference,
    InvalidReport,
    Issue,
    UnreadableReport,
)
from harborguard.ingest import make_scan
from harborguard.model import (
    Finding,
    Grade,
    Reference,
    Report,
    Scan,
    ScanStatus,
    Severity,
    SeverityCounts,
)
from harborguard.references import parse_reference
from tests.support import oracle, reports
from tests.support.reports import RECEIVED_AT, SCANNED_AT, manifest

MINUTES = timedelta(minutes=1)


def read(body: bytes, *, received_at: datetime = RECEIVED_AT, image: str | None = None) -> Scan:
    return make_scan(body, received_at=received_at, image=image)


def test_envelope_gives_complete_scan() -> None:
    body = reports.envelope(
        "https://GHCR.io/acme/api:1.4.7", (0, 1), digest=f"api@{manifest('a')}", scan_id="scan-7"
    )
    content = b"ghcr.io/acme/api\n1.4.7\n\n" + body

    actual = read(body)

    finding = Finding(
        vulnerability_id="CVE-2026-1000",
        package="openssl",
        installed_version="3.0.1",
        severity=Severity.HIGH,
        fixed_version="3.0.2",
        cvss_score=7.5,
        title="CVE-2026-1000 in openssl",
        url="https://example.org/CVE-2026-1000",
        sources=("trivy",),
    )
    assert actual == Scan(
        external_id="scan-7",
        content_sha256=hashlib.sha256(content).digest(),
        report=Report(
            reference=Reference("ghcr.io", "acme/api", "1.4.7"),
            findings=(finding,),
            scanners=("trivy",),
            status=ScanStatus.SUCCESS,
            external_id="scan-7",
            digest=manifest("a"),
            finished_at=SCANNED_AT,
            finished_at_path="scan.finishedAt",
        ),
        finished_at=SCANNED_AT,
        counts=SeverityCounts(high=1),
        risk_score=25,
        grade=Grade.B,
    )


@pytest.mark.parametrize("make", [reports.envelope, reports.trivy, reports.grype])
@pytest.mark.parametrize(
    ("counts", "score", "letter"),
    [
        ((0, 4, 19, 27), 31, Grade.B),
        ((), 0, Grade.A),
        ((0, 0, 0, 1), 0, Grade.A),
        ((0, 0, 0, 2), 1, Grade.A),
        ((0, 0, 500, 500), 49, Grade.B),
        ((0, 1, 0, 0), 25, Grade.B),
        ((0, 500, 0, 0), 74, Grade.C),
        ((1, 0, 0, 0), 75, Grade.D),
        ((500, 0, 0, 0), 100, Grade.D),
    ],
)
def test_counts_give_score_and_grade(
    make: type, counts: tuple[int, ...], score: int, letter: Grade
) -> None:
    scan = read(make(counts=counts))
    assert (scan.risk_score, scan.grade) == (score, letter)
    assert scan.counts == SeverityCounts(*counts)


@given(st.tuples(*[st.integers(0, 40)] * 4))
def test_score_and_grade_equal_the_oracle(counts: tuple[int, int, int, int]) -> None:
    scan = read(reports.trivy(counts=counts))
    expected = oracle.score_of(counts)
    assert (scan.risk_score, scan.grade.value) == (expected, oracle.grade_of(expected))


@pytest.mark.parametrize("make", [reports.envelope, reports.trivy, reports.grype])
def test_severities_below_low_are_kept_and_not_counted(make: type) -> None:
    scan = read(make(counts=(0, 0, 0, 0, 2, 3, 4)))
    assert (scan.counts, scan.risk_score, scan.grade) == (SeverityCounts(), 0, Grade.A)
    assert [finding.severity.value for finding in scan.report.findings] == (
        ["NEGLIGIBLE"] * 2 + ["INFO"] * 3 + ["UNKNOWN"] * 4
    )


@pytest.mark.parametrize("make", [reports.envelope, reports.trivy, reports.grype])
@pytest.mark.parametrize(
    ("word", "counts"),
    [
        ("Important", SeverityCounts(high=1)),
        ("moderate\u200b", SeverityCounts(medium=1)),
        ("Severe", SeverityCounts()),
    ],
)
def test_severity_words_of_other_sources_are_counted_in_each_format(
    make: type, word: str, counts: SeverityCounts
) -> None:
    pattern = re.compile(rb'("severity": )"low"', re.IGNORECASE)
    body, replaced = pattern.subn(rf'\1"{word}"'.encode(), make(counts=(0, 0, 0, 1)))
    assert (replaced, read(body).counts) == (1, counts)


def test_finding_reported_twice_counts_once_at_its_worst_severity() -> None:
    body = reports.trivy(counts=(0, 0, 1, 0))
    [medium] = read(body).report.findings
    twice = body.replace(
        b'"Vulnerabilities": [',
        b'"Vulnerabilities": [{"VulnerabilityID": "CVE-2026-1000", "PkgName": "openssl",'
        b' "Severity": "CRITICAL"}, ',
    )
    scan = read(twice)
    assert scan.report.findings == (replace(medium, severity=Severity.CRITICAL),)
    assert scan.counts == SeverityCounts(critical=1)


# identity and content


@pytest.mark.parametrize("make", [reports.trivy, reports.grype])
def test_scan_without_id_is_identified_by_its_content(make: type) -> None:
    scan = read(make())
    assert scan.external_id == f"sha256:{scan.content_sha256.hex()[:32]}"
    assert scan.report.external_id is None
    assert read(make()) == scan
    assert read(make(counts=(1,))).external_id != scan.external_id


def test_scan_with_id_keeps_it_for_any_content() -> None:
    one, other = (
        read(reports.envelope(scan_id="7")),
        read(reports.envelope(None, scan_id="7"), image="nginx"),
    )
    assert (one.external_id, other.external_id) == ("7", "7")
    assert one.content_sha256 != other.content_sha256


def test_report_for_several_images_gives_a_scan_id_for_each() -> None:
    references = [
        "ghcr.io/acme/api",
        "quay.io/acme/api",
        "acme/api",
        "ghcr.io/acme/api:1",
        "ghcr.io/acme/api:None",
        f"ghcr.io/acme/api@{manifest('a')}",
        f"ghcr.io/acme/api@{manifest('b')}",
        f"ghcr.io/acme/api:1@{manifest('a')}",
        f"ghcr.io/acme/api:None@{manifest('a')}",
    ]
    scans = [read(reports.trivy(), image=reference) for reference in references]
    assert len({scan.external_id for scan in scans}) == len(references)
    assert len({scan.content_sha256 for scan in scans}) == len(references)


def test_spellings_of_one_image_give_one_scan() -> None:
    spellings = ["nginx", "docker.io/library/nginx:latest", "https://index.docker.io/nginx"]
    assert len({read(reports.trivy(), image=spelling).external_id for spelling in spellings}) == 1


# image reference


@pytest.mark.parametrize("make", [reports.envelope, reports.trivy, reports.grype])
def test_reference_of_the_caller_overrides_the_report(make: type) -> None:
    reported = manifest("a")
    body = make("ghcr.io/acme/api:1", digest=reported)
    given_tag = read(body, image="quay.io/acme/tool:7")
    given_digest = read(body, image=f"nginx@{manifest('b')}")
    assert given_tag.report.reference == Reference("quay.io", "acme/tool", "7")
    assert given_tag.report.digest == reported
    assert given_digest.report.reference == parse_reference(f"nginx@{manifest('b')}")
    assert given_digest.report.digest == manifest("b")


@pytest.mark.parametrize("make", [reports.envelope, reports.trivy, reports.grype])
def test_report_without_image_is_rejected_unless_caller_names_it(make: type) -> None:
    with pytest.raises(InvalidReport, match="--image REF"):
        read(make(None))
    assert read(make(None), image="nginx").report.reference.name == "docker.io/library/nginx"


# times


@pytest.mark.parametrize("make", [reports.trivy, reports.grype])
def test_report_without_time_is_finished_when_received(make: type) -> None:
    scan = read(make(finished_at=None))
    assert (scan.finished_at, scan.report.finished_at) == (RECEIVED_AT, None)
    later = read(make(finished_at=None), received_at=RECEIVED_AT + 59 * MINUTES)
    assert later == replace(scan, finished_at=RECEIVED_AT + 59 * MINUTES)


@pytest.mark.parametrize("make", [reports.trivy, reports.grype])
@pytest.mark.parametrize("minutes", [-1, 60, 24 * 60, 365 * 24 * 60])
def test_report_without_time_is_another_scan_in_another_hour(make: type, minutes: int) -> None:
    scan = read(make(finished_at=None))
    received_at = RECEIVED_AT + minutes * MINUTES
    other = read(make(finished_at=None), received_at=received_at)
    assert re.fullmatch(r"sha256:[0-9a-f]{32}", other.external_id)
    assert other.external_id != scan.external_id
    assert other == replace(scan, finished_at=received_at, external_id=other.external_id)
    zone = timezone(timedelta(hours=5, minutes=30))
    assert read(make(finished_at=None), received_at=received_at.astimezone(zone)) == other


@pytest.mark.parametrize("make", [reports.trivy, reports.grype])
def test_report_with_time_is_the_same_scan_in_another_hour(make: type) -> None:
    assert read(make(), received_at=RECEIVED_AT + 60 * MINUTES) == read(make())


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (reports.envelope, "scan.finishedAt"),
        (reports.trivy, "CreatedAt"),
        (reports.grype, "descriptor.timestamp"),
    ],
)
def test_finish_time_over_five_minutes_ahead_is_rejected(make: type, path: str) -> None:
    tolerated = RECEIVED_AT + 5 * MINUTES
    assert read(make(finished_at=tolerated)).finished_at == tolerated
    with pytest.raises(InvalidReport) as caught:
        read(make(finished_at=tolerated + timedelta(microseconds=1)))
    assert caught.value.message == "The scan's finish time is in the future."
    message = "is 2026-06-01T00:05:00.000001+00:00, more than five minutes in the future"
    assert caught.value.issues == (Issue(path, message),)


def test_finish_time_in_another_zone_is_compared_in_utc() -> None:
    body = reports.trivy(finished_at=None).replace(
        b'"CreatedAt": null', b'"CreatedAt": "2026-06-01T09:05:00+09:00"'
    )
    assert read(body).finished_at == RECEIVED_AT + 5 * MINUTES


@pytest.mark.parametrize(
    ("year", "expected"),
    [
        (1970, None),
        (1980, None),
        (1999, None),
        (2000, datetime(2000, 1, 1, tzinfo=UTC)),
        (2026, datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_build_time_before_2000_is_none(year: int, expected: datetime | None) -> None:
    body = reports.trivy(built_at=datetime(year, 1, 1, tzinfo=UTC))
    assert read(body).report.built_at == expected


# invalid reports


@pytest.mark.parametrize(
    ("body", "image", "error"),
    [
        (b"", None, UnreadableReport),
        (b"{", None, UnreadableReport),
        (b"{}", None, InvalidReport),
        (reports.envelope(status="RUNNING"), None, InvalidReport),
        (reports.trivy(), "Acme/API", InvalidReference),
        (reports.trivy(), "", InvalidReference),
        (b"[]", None, InvalidReport),
    ],
)
def test_invalid_report_or_image_is_rejected(
    body: bytes, image: str | None, error: type[HarborGuardError]
) -> None:
    with pytest.raises(error):
        read(body, image=image)
