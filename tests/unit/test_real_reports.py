"""Parsing reports that real scanners wrote, from the folder HARBORGUARD_REPORTS."""

import os
from pathlib import Path

import pytest

from harborguard.errors import InvalidReport
from harborguard.model import Report
from harborguard.references import parse_reference
from harborguard.reports import parse_report
from harborguard.risk import count_severities

FOLDER = os.environ.get("HARBORGUARD_REPORTS")

pytestmark = pytest.mark.skipif(not FOLDER, reason="HARBORGUARD_REPORTS is not set")

TRIVY_IMAGES = "ghcr.io/aquasecurity/trivy-test-images"


def read(name: str) -> bytes:
    return Path(FOLDER or "", f"{name}.json").read_bytes()


def parse(name: str) -> Report:
    return parse_report(read(name))


def counts_of(report: Report) -> tuple[int, int, int, int]:
    counts = count_severities(report.findings)
    return counts.critical, counts.high, counts.medium, counts.low


def test_trivy_report_gives_reference_and_counts() -> None:
    report = parse("trivy/alpine-310")
    assert report.reference == parse_reference(f"{TRIVY_IMAGES}:alpine-310")
    assert counts_of(report) == (0, 0, 4, 0)


@pytest.mark.parametrize(
    ("name", "distinct", "counts", "reference"),
    [
        ("trivy/alpine-310", 4, (0, 0, 4, 0), f"{TRIVY_IMAGES}:alpine-310"),
        ("trivy/busybox-with-lockfile", 2, (0, 1, 1, 0), f"{TRIVY_IMAGES}:busybox-with-lockfile"),
        ("trivy/centos-7", 3, (0, 0, 1, 2), f"{TRIVY_IMAGES}:centos-7"),
        ("trivy/debian-buster", 2, (1, 0, 0, 1), f"{TRIVY_IMAGES}:debian-buster"),
        ("trivy/distroless-base", 4, (0, 0, 2, 2), f"{TRIVY_IMAGES}:distroless-base"),
        ("trivy/scheme_2_many_vulns", 5, (1, 1, 3, 0), "teamdojo:latest"),
        ("trivy/scheme_2_no_vuln", 0, (0, 0, 0, 0), "trivy-unittest:latest"),
        ("grype/check_all_fields", 5, (2, 2, 0, 0), "vulnerable-image:latest"),
        (
            "grype/issue_9618",
            35,
            (1, 18, 13, 2),
            "quay.io/cloudservices/xjoin-kafka-connect-strimzi:latest",
        ),
        ("grype/no_vuln", 0, (0, 0, 0, 0), "busybox:latest"),
        ("grype/same_cve_different_paths", 1, (1, 0, 0, 0), "test-image:latest"),
    ],
)
def test_report_gives_expected_counts_reference_and_scanner(
    name: str, distinct: int, counts: tuple[int, int, int, int], reference: str
) -> None:
    report = parse(name)
    assert distinct == len(report.findings)
    assert counts == counts_of(report)
    assert report.reference == parse_reference(reference)
    assert report.scanners == (name.partition("/")[0],)


def test_trivy_list_without_reference_is_rejected() -> None:
    body = read("trivy/legacy_many_vulns")
    report = parse_report(body, reference=parse_reference("acme/legacy:1"))
    assert len(report.findings) == 93
    assert counts_of(report) == (0, 18, 9, 65)
    with pytest.raises(InvalidReport, match="--image"):
        parse_report(body)


@pytest.mark.parametrize(
    "name",
    [
        "trivy/scheme_2_many_vulns",
        "trivy/scheme_2_no_vuln",
        "grype/check_all_fields",
        "grype/no_vuln",
    ],
)
def test_report_without_time_has_no_finish_time(name: str) -> None:
    assert parse(name).finished_at is None


def test_build_time_of_1970_is_none() -> None:
    assert parse("trivy/distroless-base").built_at is None
    assert parse("trivy/alpine-310").built_at is not None


def test_digest_comes_from_repo_digests_only() -> None:
    assert parse("grype/same_cve_different_paths").digest is None
    digest = parse("grype/issue_9618").digest
    assert digest
    assert digest.startswith("sha256:97e6d5aeed19")
