"""The demo data."""

import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from harborguard.dev.demo import make_reports
from harborguard.ingest import make_scan
from harborguard.model import Finding, Report, ScanStatus, Severity
from harborguard.reports import parse_report
from harborguard.risk import count_severities, grade, risk_score

NOW = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
FINISHED = {ScanStatus.SUCCESS, ScanStatus.PARTIAL}
# CVSS scores of each severity. Distributions rate some vulnerabilities lower than their score.
SCORES = {
    Severity.CRITICAL: (9.0, 10.0),
    Severity.HIGH: (7.0, 8.9),
    Severity.MEDIUM: (4.0, 6.9),
    Severity.LOW: (0.1, 8.9),
}


@pytest.fixture(scope="module")
def documents() -> list[bytes]:
    return list(make_reports(NOW))


@pytest.fixture(scope="module")
def reports(documents: list[bytes]) -> list[Report]:
    return [parse_report(document) for document in documents]


def find_end(report: Report) -> datetime:
    assert report.finished_at is not None
    return report.finished_at


def find_newest(reports: list[Report]) -> dict[str, Report]:
    """Return the newest finished report of each image that has one."""
    finished = [report for report in reports if report.status in FINISHED]
    return {report.reference.name: report for report in sorted(finished, key=find_end)}


def list_tags(reports: list[Report]) -> dict[str, set[str | None]]:
    tags: dict[str, set[str | None]] = {}
    for report in reports:
        tags.setdefault(report.reference.name, set()).add(report.reference.tag)
    return tags


def test_reports_have_expected_number_size_images_and_hosts(
    documents: list[bytes], reports: list[Report]
) -> None:
    assert 400 <= len(documents) <= 500
    assert sum(map(len, documents)) < 6_000_000
    assert len({report.reference.name for report in reports}) == 320
    assert {report.reference.host for report in reports} == {
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        "docker.io",
        "europe-west1-docker.pkg.dev",
        "ghcr.io",
        "quay.io",
        "registry.example.test:5000",
    }


def test_make_reports_called_twice_returns_the_same_documents(documents: list[bytes]) -> None:
    assert list(make_reports(NOW)) == documents


def test_later_now_changes_only_times_and_date_tags(reports: list[Report]) -> None:
    def pick(report: Report) -> tuple[str, str, str | None, tuple[Finding, ...], ScanStatus]:
        tag = re.sub(r"\d{4}\.\d\d\.\d\d", "date", report.reference.tag or "")
        return report.reference.name, tag, report.digest, report.findings, report.status

    later = [parse_report(document) for document in make_reports(NOW + timedelta(days=400))]
    assert [pick(report) for report in later] == [pick(report) for report in reports]
    assert min(map(find_end, later)) > NOW


def test_reports_use_all_three_formats(documents: list[bytes]) -> None:
    keys = {"SchemaVersion": "trivy", "matches": "grype", "version": "envelope"}
    formats = Counter(
        name for document in documents for key, name in keys.items() if key in json.loads(document)
    )
    assert set(formats) == {"trivy", "grype", "envelope"}
    assert formats.total() == len(documents)
    assert min(formats.values()) > 100


def test_scan_times_are_within_the_year_before_now(reports: list[Report]) -> None:
    for report in reports:
        started_at = report.started_at or report.built_at
        assert started_at is not None
        assert NOW - timedelta(days=365) < started_at < find_end(report) <= NOW


def test_each_report_is_a_different_scan(documents: list[bytes]) -> None:
    scans = [make_scan(document, received_at=NOW) for document in documents]
    assert len({scan.external_id for scan in scans}) == len(documents)


def test_all_grades_have_their_intended_share(reports: list[Report]) -> None:
    newest = find_newest(reports)
    grades = Counter(
        grade(risk_score(count_severities(report.findings))).value for report in newest.values()
    )
    shares = {letter: count / len(newest) for letter, count in grades.items()}
    assert shares == pytest.approx({"A": 0.35, "B": 0.30, "C": 0.20, "D": 0.15}, abs=0.03)


def test_some_images_have_no_findings_and_some_have_hundreds(reports: list[Report]) -> None:
    counts = [len(report.findings) for report in find_newest(reports).values()]
    assert counts.count(0) > 10
    assert 3 <= sum(count >= 200 for count in counts) <= 10


def test_some_images_were_never_scanned(reports: list[Report]) -> None:
    unfinished = [report for report in reports if report.status not in FINISHED]
    assert {report.status for report in reports} == set(ScanStatus)
    assert not any(report.findings for report in unfinished)
    never = {report.reference.name for report in unfinished} - set(find_newest(reports))
    assert 5 <= len(never) <= 20


def test_images_have_up_to_fourteen_tags_or_none(reports: list[Report]) -> None:
    tags = list_tags(reports)
    assert max(map(len, tags.values())) == 14
    assert {"latest", "main"} <= set().union(*tags.values())
    assert {None} in tags.values()


def test_each_build_has_its_own_digest(reports: list[Report]) -> None:
    digests = [report.digest or "" for report in reports]
    assert len(set(digests)) == len(reports)
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", digest) for digest in digests)


def test_each_build_is_scanned_before_the_next_one_is_built(reports: list[Report]) -> None:
    for newer, older in pairwise(reports):
        if newer.reference.name == older.reference.name:
            built_at = newer.built_at or newer.started_at
            assert built_at is not None
            assert find_end(older) < built_at


def test_findings_have_known_ids_and_scores_that_fit_their_severity(reports: list[Report]) -> None:
    findings = {
        (finding.vulnerability_id, finding.severity, finding.cvss_score)
        for report in reports
        for finding in report.findings
    }
    ids = {vulnerability_id for vulnerability_id, *_ in findings}
    assert {"CVE-2021-44228", "CVE-2014-0160", "CVE-2023-44487"} <= ids
    assert len(ids) > 50
    for vulnerability_id, severity, score in findings:
        minimum, maximum = SCORES[severity]
        assert score is not None
        assert minimum <= score <= maximum, vulnerability_id
