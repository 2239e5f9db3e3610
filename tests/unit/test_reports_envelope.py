"""Parsing the HarborGuard sensor's envelope."""

from datetime import UTC, datetime
from typing import Any

import pytest

from harborguard.errors import InvalidReport
from harborguard.model import Finding, Reference, Report, ScanStatus, Severity
from harborguard.reports.decoding import MAX_PART
from tests.support.report_documents import DIGEST, OTHER_DIGEST, issues_of, parse

OVERRIDE = Reference("quay.io", "acme/tool", "7")


def make_vulnerability(**changes: Any) -> dict[str, Any]:
    return {
        "cveId": "CVE-2024-3333",
        "source": "trivy",
        "severity": "CRITICAL",
        "cvssScore": 9.8,
        "title": "curl: heap overflow",
        "description": "skipped",
        "packageName": "curl",
        "installedVersion": "8.0.0",
        "fixedVersion": "8.1.0",
        "vulnerabilityUrl": "https://example.org/CVE-2024-3333",
        **changes,
    }


def make_document(*vulnerabilities: object, **changes: Any) -> dict[str, Any]:
    return {
        "version": "1.0",
        "sensor": {"version": "0.1.0", "scannerVersions": {"trivy": "0.58.1", "dive": "0.12"}},
        "image": {
            "ref": "https://ghcr.io/acme/api:1.4",
            "digest": f"ghcr.io/acme/api@{DIGEST}",
            "platform": "linux/amd64",
            "sizeBytes": 51_000_000,
            "name": "api",
            "tag": "1.4",
        },
        "scan": {
            "id": "0b8d3a3e-6a55-4c0f-9a1c-0c7d3c1f2a11",
            "startedAt": "2026-04-26T14:20:00Z",
            "finishedAt": "2026-04-26T14:22:11Z",
            "status": "SUCCESS",
        },
        "findings": {
            "vulnerabilities": list(vulnerabilities),
            "packages": [{"name": "curl", "version": "8.0.0", "type": "deb", "source": "trivy"}],
            "compliance": [],
            "efficiency": [],
        },
        "aggregates": {"riskScore": 3, "vulnerabilityCounts": {"critical": 900}},
        **changes,
    }


def change_scan(**changes: Any) -> dict[str, Any]:
    document = make_document(make_vulnerability())
    scan = {**document["scan"], **changes}
    return {**document, "scan": {key: value for key, value in scan.items() if value != "absent"}}


def test_envelope_gives_complete_report() -> None:
    assert parse(make_document(make_vulnerability())) == Report(
        reference=Reference("ghcr.io", "acme/api", "1.4"),
        findings=(
            Finding(
                vulnerability_id="CVE-2024-3333",
                package="curl",
                installed_version="8.0.0",
                severity=Severity.CRITICAL,
                fixed_version="8.1.0",
                cvss_score=9.8,
                title="curl: heap overflow",
                url="https://example.org/CVE-2024-3333",
                sources=("trivy",),
            ),
        ),
        scanners=("dive", "trivy"),
        status=ScanStatus.SUCCESS,
        external_id="0b8d3a3e-6a55-4c0f-9a1c-0c7d3c1f2a11",
        digest=DIGEST,
        started_at=datetime(2026, 4, 26, 14, 20, tzinfo=UTC),
        finished_at=datetime(2026, 4, 26, 14, 22, 11, tzinfo=UTC),
        finished_at_path="scan.finishedAt",
    )


def test_finding_of_two_scanners_is_merged() -> None:
    report = parse(
        make_document(
            make_vulnerability(source="trivy", severity="HIGH", cvssScore=7.0),
            make_vulnerability(source="grype", severity="CRITICAL", cvssScore=None),
        )
    )
    [finding] = report.findings
    assert (finding.severity, finding.cvss_score) == (Severity.CRITICAL, 7.0)
    assert finding.sources == ("grype", "trivy")


@pytest.mark.parametrize(
    ("sensor", "scanners"),
    [
        ({"scannerVersions": {"trivy": "1", "dive": "2"}}, ("dive", "trivy")),
        ({"scannerVersions": {"trivy": None}}, ("trivy",)),
        ({"scannerVersions": {"Trivy": "1", " TRIVY\n": "2", " ": "3"}}, ("trivy",)),
        ({"scannerVersions": {}}, ("harborguard-sensor",)),
        ({"scannerVersions": None}, ("harborguard-sensor",)),
        ({"scannerVersions": ["trivy"]}, ("harborguard-sensor",)),
        ({"scannerVersions": {"trivy": "1", "a\0": "1", "": "1"}}, ("a\ufffd", "trivy")),
        ({"scannerVersions": {"trivy": "1", "x" * 5000: "1"}}, ("trivy", "x" * 100)),
        ({"scannerVersions": {"": "1"}}, ("harborguard-sensor",)),
        ({"version": "0.1.0"}, ("harborguard-sensor",)),
        ("sensor", ("harborguard-sensor",)),
        (None, ("harborguard-sensor",)),
    ],
)
def test_scanners_are_those_of_the_sensor_else_the_sources_of_findings(
    sensor: object, scanners: tuple[str, ...]
) -> None:
    finding = make_vulnerability(source=None)
    assert parse(make_document(finding, sensor=sensor)).scanners == scanners
    finding = make_vulnerability(source="grype")
    expected = ("grype",) if scanners == ("harborguard-sensor",) else scanners
    assert parse(make_document(finding, sensor=sensor)).scanners == expected


def test_set_of_scanners_does_not_depend_on_the_findings() -> None:
    sensor = {"scannerVersions": {"trivy": "0.58.1", "grype": "0.86.1"}}
    findings: list[list[str]] = [[], ["trivy"], ["grype"], ["trivy", "grype"]]
    for sources in findings:
        vulnerabilities = [make_vulnerability(source=source) for source in sources]
        report = parse(make_document(*vulnerabilities, sensor=sensor))
        assert report.scanners == ("grype", "trivy"), sources


@pytest.mark.parametrize("name", ["{:05}", "{:05}" + "x" * 5000], ids=["short", "long"])
def test_scan_and_finding_have_at_most_sixteen_scanners(name: str) -> None:
    names = [name.format(number) for number in range(1000)]
    expected = tuple(each[:100] for each in names[:16])
    one_finding = make_document(*(make_vulnerability(source=each) for each in names), sensor=None)
    report = parse(one_finding)
    assert (report.scanners, report.findings[0].sources) == (expected, expected)
    many_findings = make_document(
        *(make_vulnerability(source=each, cveId=f"CVE-{each[:5]}") for each in names), sensor=None
    )
    assert parse(many_findings).scanners == expected
    sensor = {"scannerVersions": dict.fromkeys([*names[:150], "trivy"], "1")}
    assert parse(make_document(sensor=sensor)).scanners == expected


def test_scanners_of_findings_without_source_are_those_of_the_sensor() -> None:
    report = parse(make_document(make_vulnerability(source="")))
    assert (report.findings[0].sources, report.scanners) == ((), ("dive", "trivy"))


@pytest.mark.parametrize("status", list(ScanStatus))
def test_status_is_parsed(status: ScanStatus) -> None:
    document = change_scan(status=status.value)
    document["findings"]["vulnerabilities"] = [make_vulnerability(severity="LOW")]
    assert status is parse(document).status


UNCOUNTED = [{"severity": word} for word in ("NEGLIGIBLE", "INFO", "UNKNOWN", "other")]


@pytest.mark.parametrize(
    "vulnerabilities", [[], None, [make_vulnerability(**each) for each in UNCOUNTED]]
)
@pytest.mark.parametrize("status", list(ScanStatus))
def test_partial_scan_without_counted_vulnerabilities_has_failed(
    vulnerabilities: object, status: ScanStatus
) -> None:
    document = change_scan(status=status.value)
    document["findings"]["vulnerabilities"] = vulnerabilities
    expected = ScanStatus.FAILED if status is ScanStatus.PARTIAL else status
    assert parse(document).status is expected


OTHERS = ["dockle", "dive", "syft"]


@pytest.mark.parametrize("status", list(ScanStatus))
def test_finished_scan_without_scanner_of_vulnerabilities_is_rejected(status: ScanStatus) -> None:
    sensor = {"scannerVersions": dict.fromkeys(OTHERS, "1")}
    document = {**change_scan(status=status.value), "sensor": sensor}
    document["findings"]["vulnerabilities"] = []
    if not status.is_finished:
        assert parse(document).status is status
        return
    with pytest.raises(InvalidReport, match="none of its scanners looks for them") as caught:
        parse(document)
    [issue] = caught.value.issues
    assert issue.path == "sensor.scannerVersions"
    assert issue.message.startswith("has none of the scanners anchore, clair, docker-scout, grype,")
    document["findings"]["vulnerabilities"] = [make_vulnerability()]
    assert parse(document).status is status


@pytest.mark.parametrize(
    ("sensor", "path"),
    [
        ({"scannerVersions": ["dockle"]}, "sensor.scannerVersions"),
        ({"scannerVersions": "dockle"}, "sensor.scannerVersions"),
        ({"scannerVersions": {"dockle": "1"}, "x": "y" * MAX_PART}, "sensor"),
        ("dockle", "sensor"),
        ([], "sensor"),
    ],
)
def test_unreadable_sensor_of_a_scan_without_vulnerabilities_is_rejected(
    sensor: object, path: str
) -> None:
    with pytest.raises(InvalidReport) as caught:
        parse(make_document(sensor=sensor))
    assert [issue.path for issue in caught.value.issues] == [path]


@pytest.mark.parametrize("sensor", [None, {}, {"scannerVersions": None}, {"scannerVersions": {}}])
def test_scan_without_vulnerabilities_whose_sensor_names_no_scanner_is_accepted(
    sensor: object,
) -> None:
    assert parse(make_document(sensor=sensor)).status is ScanStatus.SUCCESS


@pytest.mark.parametrize("name", ["trivy", "grype", "osv", "osv-scanner", " Trivy ", "snyk"])
def test_scan_without_vulnerabilities_of_a_scanner_for_them_is_accepted(name: str) -> None:
    # More scanners than a scan can have, so that the name is not among the recorded ones.
    names = [*(f"{number:02}" for number in range(20)), name]
    report = parse(make_document(sensor={"scannerVersions": dict.fromkeys(names, "1")}))
    assert (report.status, report.findings, len(report.scanners)) == (ScanStatus.SUCCESS, (), 16)


@pytest.mark.parametrize(
    ("version", "shown"),
    [
        ("1.1", '"1.1"'),
        ("2.0", '"2.0"'),
        ("1.0.0", '"1.0.0"'),
        (1.0, "1.0"),
        (None, "null"),
        ("x" * 500, '"' + "x" * 39),
    ],
)
def test_unsupported_version_is_rejected_and_shown(version: object, shown: str) -> None:
    document = {"version": version, "image": {"layout": "unknown"}, "scan": "unknown"}
    assert issues_of(document) == [("version", f'is {shown}, but only "1.0" is supported')]


def test_missing_version_is_rejected() -> None:
    document = make_document()
    del document["version"]
    assert issues_of(document) == [("version", 'is missing, but only "1.0" is supported')]


@pytest.mark.parametrize(
    ("digest", "expected"),
    [
        (DIGEST, DIGEST),
        (f"a@b@{DIGEST}", DIGEST),
        (f"ghcr.io/someone/else@{DIGEST}", DIGEST),
        ("sha256:abcdef", None),
        (f"{DIGEST}@", None),
        ("", None),
        (None, None),
        (7, None),
        (["a"], None),
    ],
)
def test_malformed_digest_is_none(digest: object, expected: str | None) -> None:
    report = parse(make_document(image={"ref": "acme/api:1", "digest": digest}))
    assert (expected, "1") == (report.digest, report.reference.tag)


@pytest.mark.parametrize(
    ("ref", "reported", "requested", "expected"),
    [
        (f"acme/api@{DIGEST}", None, None, DIGEST),
        (f"acme/api@{DIGEST}", OTHER_DIGEST, None, OTHER_DIGEST),
        ("acme/api", OTHER_DIGEST, DIGEST, DIGEST),
        ("acme/api", OTHER_DIGEST, None, OTHER_DIGEST),
    ],
)
def test_digest_of_caller_precedes_image_digest_and_reference(
    ref: str, reported: str | None, requested: str | None, expected: str
) -> None:
    document = make_document(image={"ref": ref, "digest": reported})
    reference = Reference("quay.io", "acme/tool", None, requested) if requested else None
    assert expected == parse(document, reference).digest


def test_digest_of_scanned_name_is_used_unless_caller_names_another_image() -> None:
    document = make_document(image={"ref": f"acme/api@{DIGEST}"})
    assert parse(document, Reference("docker.io", "acme/api", "1")).digest == DIGEST
    assert parse(document, OVERRIDE).digest is None


@pytest.mark.parametrize(
    "image", [None, {}, {"ref": None}, {"ref": ""}, {"ref": "api.tar"}, {"name": "api", "tag": "1"}]
)
def test_envelope_without_image_is_rejected_unless_caller_names_it(image: object) -> None:
    with pytest.raises(InvalidReport, match=r"--image REF .* \?image=REF"):
        parse(make_document(image=image))
    assert parse(make_document(image=image), OVERRIDE).reference is OVERRIDE


@pytest.mark.parametrize(
    "ref",
    [
        "images/api.tar",
        "api.tar.zst",
        "/srv/layout",
        "./layout",
        "../layout:1",
        "oci-dir:layout",
        "0123456789ab",
        "sha256:0123456789ab",
        "aaaaaaa:latest",
    ],
)
def test_path_or_image_id_is_not_an_image(ref: str) -> None:
    document = make_document(image={"ref": ref, "digest": DIGEST})
    [(path, _)] = issues_of(document)
    assert path == "image.ref"
    assert parse(document, OVERRIDE).reference is OVERRIDE


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("docker://ghcr.io/acme/api:1", Reference("ghcr.io", "acme/api", "1")),
        ("containerd://acme/api", Reference("docker.io", "acme/api", "latest")),
        ("acme/api:1", Reference("docker.io", "acme/api", "1")),
    ],
)
def test_reference_with_scheme_or_without_host_is_parsed(ref: str, expected: Reference) -> None:
    assert parse(make_document(image={"ref": ref})).reference == expected


def test_malformed_reference_is_rejected_with_path_and_reason() -> None:
    [(path, message)] = issues_of(make_document(image={"ref": "ghcr.io/Acme/api"}))
    assert path == "image.ref"
    assert "lower-case" in message


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (make_document(image="nginx"), "image"),
        (make_document(image={"ref": 1}), "image.ref"),
        (make_document(scan=None), "scan"),
        (make_document(findings=None), "findings"),
        (make_document(findings=[]), "findings"),
        (make_document(findings={}), "findings.vulnerabilities"),
        (make_document(findings={"vulnerabilities": {}}), "findings.vulnerabilities"),
        (make_document(None), "findings.vulnerabilities[0]"),
        (make_document(1), "findings.vulnerabilities[0]"),
        (change_scan(id="absent"), "scan.id"),
        (change_scan(id=""), "scan.id"),
        (change_scan(id=7), "scan.id"),
        (change_scan(id="x\0"), "scan.id"),
        (change_scan(id="x" * 201), "scan.id"),
        (change_scan(status="absent"), "scan.status"),
        (change_scan(status="success"), "scan.status"),
        (change_scan(status="RUNNING" * 1000), "scan.status"),
        (change_scan(finishedAt="absent"), "scan.finishedAt"),
        (change_scan(finishedAt=None), "scan.finishedAt"),
        (change_scan(finishedAt=""), "scan.finishedAt"),
        (change_scan(finishedAt="0001-soon"), "scan.finishedAt"),
        (change_scan(finishedAt="now"), "scan.finishedAt"),
        (change_scan(finishedAt="2026-04-26T14:22:61Z"), "scan.finishedAt"),
        (change_scan(finishedAt="2026-04-26T14:22:11"), "scan.finishedAt"),
        (change_scan(finishedAt=1777213331), "scan.finishedAt"),
    ],
)
def test_invalid_field_is_rejected_with_its_path(document: object, path: str) -> None:
    [issue] = issues_of(document)
    assert issue[0] == path
    assert len(issue[1]) <= 300


@pytest.mark.parametrize(
    "changes",
    [
        {"cveId": ""},
        {"cveId": "x" * 1001},
        {"cveId": "CVE\0"},
        {"source": 1},
        {"severity": None},
        {"severity": 9},
        {"title": 1},
        {"packageName": None},
        {"installedVersion": 1},
        {"fixedVersion": 1},
        {"vulnerabilityUrl": 1},
    ],
)
def test_invalid_field_of_a_finding_is_rejected_with_its_path(changes: dict[str, Any]) -> None:
    valid = [make_vulnerability()] * 3
    [issue] = issues_of(make_document(*valid, make_vulnerability(**changes)))
    assert issue[0] == f"findings.vulnerabilities[3].{next(iter(changes))}"


@pytest.mark.parametrize("field", ["cveId", "severity", "packageName"])
def test_missing_field_of_a_finding_is_rejected_with_its_path(field: str) -> None:
    vulnerability = make_vulnerability()
    del vulnerability[field]
    path = f"findings.vulnerabilities[0].{field}"
    assert issues_of(make_document(vulnerability)) == [(path, "is required")]


def test_nul_in_identifier_is_rejected_with_plain_message() -> None:
    [issue] = issues_of(make_document(make_vulnerability(cveId="\0")))
    assert issue[1] == "must not contain NUL (\\u0000)"


def test_nul_in_skipped_field_is_ignored() -> None:
    assert len(parse(make_document(make_vulnerability(description="\0"))).findings) == 1


def test_finding_with_only_required_fields_is_parsed() -> None:
    vulnerability = {"cveId": "X-1", "severity": "odd", "packageName": ""}
    [finding] = parse(make_document(vulnerability)).findings
    assert finding == Finding("X-1", "", "", Severity.UNKNOWN)


@pytest.mark.parametrize(
    ("reported", "score"),
    [(0, 0.0), (10, 10.0), (10.5, None), (-1, None), (1e9, None), (None, None)],
)
def test_score_out_of_range_is_none(reported: object, score: float | None) -> None:
    [finding] = parse(make_document(make_vulnerability(cvssScore=reported))).findings
    assert score == finding.cvss_score


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (None, None)),
        ({"epss": 0.25, "kev": True}, (0.25, True)),
        ({"epss": 0, "kev": False}, (0.0, False)),
        ({"epss": None, "kev": None}, (None, None)),
        ({"epss": 1.5, "kev": 1}, (None, None)),
        ({"epss": "0.5", "kev": "yes"}, (None, None)),
        ({"epss": [], "kev": {}}, (None, None)),
    ],
)
def test_epss_and_kev_are_read_or_none(
    fields: dict[str, Any], expected: tuple[float | None, bool | None]
) -> None:
    [finding] = parse(make_document(make_vulnerability(**fields))).findings
    assert (finding.epss, finding.kev) == expected


def test_long_title_and_url_are_clipped() -> None:
    vulnerability = make_vulnerability(title="t" * 5000, vulnerabilityUrl="u" * 5000)
    [finding] = parse(make_document(vulnerability)).findings
    assert (finding.title, finding.url) == ("t" * 500, "u" * 2000)


def test_null_list_of_vulnerabilities_gives_no_findings() -> None:
    assert parse(make_document(findings={"vulnerabilities": None, "packages": None})).findings == ()


@pytest.mark.parametrize(
    "started",
    ["absent", None, "", "0001-01-01T00:00:00Z", "2026-04-26T14:22:11", "then", 1777213331, []],
)
def test_missing_or_malformed_start_time_is_none(started: object) -> None:
    assert parse(change_scan(startedAt=started)).started_at is None


def test_start_time_after_finish_time_is_kept() -> None:
    report = parse(change_scan(startedAt="2026-04-26T15:00:00+00:00"))
    assert report.started_at == datetime(2026, 4, 26, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("finished", "expected"),
    [
        ("2026-12-31T23:59:60Z", datetime(2026, 12, 31, 23, 59, 59, 999999, UTC)),
        ("2027-01-01T00:59:60.5+01:00", datetime(2026, 12, 31, 23, 59, 59, 999999, UTC)),
        ("2026-12-31T23:59:59.123456789Z", datetime(2026, 12, 31, 23, 59, 59, 123456, UTC)),
    ],
)
def test_finish_time_in_a_leap_second_is_the_microsecond_before(
    finished: str, expected: datetime
) -> None:
    assert parse(change_scan(finishedAt=finished)).finished_at == expected


def test_finish_time_of_year_1_is_none() -> None:
    assert parse(change_scan(finishedAt="0001-01-01T00:00:00Z")).finished_at is None
