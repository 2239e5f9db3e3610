"""Parsing Trivy's JSON reports: schema 2 and the list of results."""

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
        "VulnerabilityID": "CVE-2024-1111",
        "PkgID": "libssl3@3.0.1",
        "PkgName": "libssl3",
        "InstalledVersion": "3.0.1",
        "FixedVersion": "3.0.2",
        "SeveritySource": "debian",
        "PrimaryURL": "https://example.org/CVE-2024-1111",
        "Title": "openssl: out-of-bounds read",
        "Description": "skipped",
        "Severity": "HIGH",
        "CVSS": {"nvd": {"V2Score": 5, "V3Score": 7.5}},
        **changes,
    }


def make_document(*vulnerabilities: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "SchemaVersion": 2,
        "CreatedAt": "2026-04-26T14:22:11.123456789+02:00",
        "ArtifactName": "ghcr.io/acme/api:1.4",
        "ArtifactType": "container_image",
        "Metadata": {
            "RepoTags": ["ghcr.io/acme/api:1.3", "ghcr.io/acme/api:1.4"],
            "RepoDigests": [f"mirror.io/api@{OTHER_DIGEST}", f"ghcr.io/acme/api@{DIGEST}"],
            "ImageConfig": {"created": "2026-04-01T10:00:00.5Z", "config": {"Env": ["A=b"]}},
        },
        "Results": [
            {"Target": "debian", "Class": "os-pkgs", "Vulnerabilities": list(vulnerabilities)}
        ],
        **changes,
    }


def test_trivy_report_gives_complete_report() -> None:
    assert parse(make_document(make_vulnerability())) == Report(
        reference=Reference("ghcr.io", "acme/api", "1.4"),
        findings=(
            Finding(
                vulnerability_id="CVE-2024-1111",
                package="libssl3",
                installed_version="3.0.1",
                severity=Severity.HIGH,
                fixed_version="3.0.2",
                cvss_score=7.5,
                title="openssl: out-of-bounds read",
                url="https://example.org/CVE-2024-1111",
                sources=("trivy",),
            ),
        ),
        scanners=("trivy",),
        status=ScanStatus.SUCCESS,
        digest=DIGEST,
        built_at=datetime(2026, 4, 1, 10, 0, 0, 500_000, tzinfo=UTC),
        finished_at=datetime(2026, 4, 26, 12, 22, 11, 123456, tzinfo=UTC),
        finished_at_path="CreatedAt",
    )


def test_vulnerability_with_only_required_fields_is_parsed() -> None:
    [finding] = parse(make_document({"VulnerabilityID": "X-1", "PkgName": "p"})).findings
    assert finding == Finding("X-1", "p", "", Severity.UNKNOWN, sources=("trivy",))


def test_result_list_without_reference_is_rejected() -> None:
    document = [{"Target": "debian", "Type": "debian", "Vulnerabilities": [make_vulnerability()]}]
    report = parse(document, OVERRIDE)
    assert (report.reference, len(report.findings), report.finished_at) == (OVERRIDE, 1, None)
    with pytest.raises(InvalidReport, match=r"--image REF .* \?image=REF"):
        parse(document)


PACKAGES = {"Target": "debian", "Class": "os-pkgs", "Packages": [{"Name": "libc6"}]}
SECRETS = {"Target": "/key.pem", "Class": "secret", "Secrets": [{"RuleID": "private-key"}]}
CONFIG = {"Target": "Dockerfile", "Class": "config", "Misconfigurations": [{"ID": "DS002"}]}
LICENSES = {"Target": "OS Packages", "Class": "license", "Licenses": [{"Name": "AGPL-3.0"}]}


@pytest.mark.parametrize(
    "results",
    [
        [{"Target": "x", "Class": "os-pkgs"}],
        [{"Target": "x", "Class": "lang-pkgs", "Vulnerabilities": []}],
        [{"Target": "x", "Class": "os-pkgs", "Vulnerabilities": None}],
        [PACKAGES],
        [SECRETS, CONFIG, LICENSES, PACKAGES],
        [{"Target": "x", "Vulnerabilities": None}],
        [{"Target": "x", "Vulnerabilities": []}],
        [{"Target": "x", "Packages": [{"Name": "libc6"}]}],
    ],
)
def test_packages_without_vulnerabilities_give_no_findings(results: list[object]) -> None:
    assert parse(make_document(Results=results)).findings == ()
    assert parse(results, OVERRIDE) == Report(OVERRIDE, (), ("trivy",))


@pytest.mark.parametrize(
    "results",
    [
        [],
        [{}],
        [{"Target": "x"}],
        [{"Target": "x", "Packages": None}],
        [SECRETS],
        [CONFIG],
        [LICENSES],
        [SECRETS, CONFIG, LICENSES],
        [{"Target": "x", "Class": "license-file"}],
        [{"Target": "x", "Class": "custom", "CustomResources": [{"Type": "x"}]}],
        [{"Target": "x", "Class": "secret", "Vulnerabilities": None}],
        [{"Target": "x", "Class": "config", "Vulnerabilities": []}],
        [{"Target": "x", "Class": "secret", "Packages": [{"Name": "libc6"}]}],
        [{"Target": "x", "Class": 5, "Packages": []}],
        [{"Target": "x", "Class": {"a": 1}, "Vulnerabilities": None}],
        [{"Target": "x", "Class": "x" * MAX_PART, "Vulnerabilities": None}],
    ],
)
def test_results_that_list_no_packages_are_rejected(results: list[object]) -> None:
    message = "has no result for packages (os-pkgs or lang-pkgs)"
    assert issues_of(make_document(Results=results)) == [("Results", message)]
    for document in (make_document(Results=results), results):
        with pytest.raises(InvalidReport) as error:
            parse(document, OVERRIDE)
        assert error.value.message == (
            "The report says nothing about vulnerabilities. Scan with `trivy image --scanners vuln "
            "--list-all-pkgs --format json IMAGE`. If Trivy finds no packages in the image, scan "
            "it with Grype."
        )


@pytest.mark.parametrize("metadata", [{"OS": {"Family": "alpine"}}, {"ImageID": DIGEST}, None])
def test_report_without_results_is_rejected(metadata: object) -> None:
    """An image without packages and a scan for secrets alone give the same report."""
    document = make_document(ArtifactName="ghcr.io/acme/api:1", Metadata=metadata, Results=None)
    assert [path for path, _ in issues_of(document)] == ["Results"]
    del document["Results"]
    assert [path for path, _ in issues_of(document)] == ["Results"]


def test_vulnerabilities_of_any_class_are_findings() -> None:
    results = [SECRETS, {"Class": "other", "Vulnerabilities": [make_vulnerability()]}]
    assert len(parse(make_document(Results=results)).findings) == 1


def test_findings_of_all_results_are_merged() -> None:
    results = [
        {"Vulnerabilities": [make_vulnerability(Severity="LOW")]},
        {"Vulnerabilities": [make_vulnerability(), make_vulnerability(PkgName="libssl-dev")]},
    ]
    findings = parse(make_document(Results=results)).findings
    assert [(finding.package, finding.severity) for finding in findings] == [
        ("libssl-dev", "HIGH"),
        ("libssl3", "HIGH"),
    ]


@pytest.mark.parametrize(
    ("name", "metadata", "expected"),
    [
        ("nginx:1", {"RepoTags": ["b:1", "nginx:1"]}, "docker.io/library/nginx:1"),
        ("nginx", {"RepoTags": ["b:1", "nginx:latest"]}, "docker.io/library/nginx:latest"),
        ("nginx", {"RepoDigests": [f"nginx@{DIGEST}"]}, "docker.io/library/nginx:latest"),
        ("nginx:2", {"RepoTags": ["b:1", "nginx:1"]}, "docker.io/library/nginx:2"),
        ("nginx:2", {"RepoTags": ["b:1"]}, "docker.io/library/nginx:2"),
        ("ghcr.io/a/b:2", {"RepoTags": ["c:1", "ghcr.io/a/b:1"]}, "ghcr.io/a/b:2"),
        ("nginx:2", {"RepoTags": []}, "docker.io/library/nginx:2"),
        ("nginx:2", {"RepoTags": None}, "docker.io/library/nginx:2"),
        ("nginx:2", {"RepoTags": "b:1"}, "docker.io/library/nginx:2"),
        ("nginx:2", {"RepoTags": ["<none>:<none>"]}, "docker.io/library/nginx:2"),
        ("nginx:2", {"Reference": "r:3"}, "docker.io/library/nginx:2"),
        ("nginx:2", None, "docker.io/library/nginx:2"),
        ("nginx", None, "docker.io/library/nginx:latest"),
        ("docker:24", {"RepoTags": ["docker:24"]}, "docker.io/library/docker:24"),
        ("podman:stable", {"RepoTags": ["podman:stable"]}, "docker.io/library/podman:stable"),
        ("docker-pullable://ghcr.io/a/b:2", None, "ghcr.io/a/b:2"),
        ("x/image", {"RepoTags": ["b:1"], "Reference": "r:3"}, "docker.io/library/b:1"),
        ("x/image", {"RepoTags": ["<none>:<none>", "b:1"]}, "docker.io/library/b:1"),
        ("x/image", {"Reference": "r:3"}, "docker.io/library/r:3"),
        ("x/image.tar", {"RepoTags": ["b:1"]}, "docker.io/library/b:1"),
        ("x.y/image.tar", {"RepoTags": ["b:1"]}, "docker.io/library/b:1"),
        ("x/image.tar.gz", {"Reference": "r:3"}, "docker.io/library/r:3"),
        ("ghcr.io/acme/api:rel.zip", {"RepoTags": ["b:1"]}, "ghcr.io/acme/api:rel.zip"),
        ("localhost/api:1.json", {"RepoTags": ["b:1"]}, "localhost/api:1.json"),
        ("x/image:1.tar", {"RepoTags": ["b:1"]}, "docker.io/library/b:1"),
        ("x.y:1/image.tar", {"RepoTags": ["b:1"]}, "docker.io/library/b:1"),
        ("./x/image:1.tar", {"RepoTags": ["b:1"]}, "docker.io/library/b:1"),
        ("/x/image:1", {"RepoTags": ["b:1"]}, "docker.io/library/b:1"),
        ("./image:1", {"RepoTags": ["b:1"]}, "docker.io/library/b:1"),
        ("0123456789ab", {"RepoTags": ["b:1"]}, "docker.io/library/b:1"),
        ("aaaaaaa:latest", {"ImageID": DIGEST, "RepoTags": ["b:1"]}, "docker.io/library/b:1"),
        ("", {"Reference": "r:3"}, "docker.io/library/r:3"),
    ],
)
def test_reference_is_scanned_name_else_repo_tag_else_reference(
    name: str, metadata: object, expected: str
) -> None:
    reference = parse(make_document(ArtifactName=name, Metadata=metadata)).reference
    assert expected == f"{reference.name}:{reference.tag}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"ghcr.io/a/b@{DIGEST}", Reference("ghcr.io", "a/b", "1.4", DIGEST)),
        (f"ghcr.io/a/b:2@{DIGEST}", Reference("ghcr.io", "a/b", "2", DIGEST)),
        (f"ghcr.io/a/c@{DIGEST}", Reference("ghcr.io", "a/c", None, DIGEST)),
        (f"acme/api@{DIGEST}", Reference("docker.io", "acme/api", None, DIGEST)),
        (f"docker-pullable://ghcr.io/a/b@{DIGEST}", Reference("ghcr.io", "a/b", "1.4", DIGEST)),
        ("ghcr.io/a/b@sha256:short", Reference("ghcr.io", "a/b", "1.4")),
    ],
)
def test_pinned_image_keeps_its_name_and_gets_a_listed_tag(name: str, expected: Reference) -> None:
    """Other names that a daemon has for the image do not replace the scanned one."""
    metadata = {
        "RepoTags": ["localhost:5000/cache/tmp:build-17", "ghcr.io/a/b:1.4", "ghcr.io/a/b:1"],
        "RepoDigests": [f"localhost:5000/cache/tmp@{OTHER_DIGEST}"],
    }
    report = parse(make_document(ArtifactName=name, Metadata=metadata))
    assert report.reference == expected
    assert report.digest == (expected.digest or OTHER_DIGEST)


@pytest.mark.parametrize(
    "name",
    [
        "layouts/alpine:3.19",
        "layouts/alpine",
        "alpine:3.19",
        "layout",
        "/srv/layout",
        "./layout",
        "../layout:1",
        "444444444444",
        "4444444",
        "sha256:444444444444",
        "4444444:latest",
    ],
)
def test_path_or_image_id_is_not_an_image(name: str) -> None:
    """Trivy lists names for each image of a daemon or a registry, but none for a layout."""
    image_id = "sha256:" + "4" * 64
    document = make_document(ArtifactName=name, Metadata={"ImageID": image_id, "OS": {}})
    [(path, _)] = issues_of(document)
    assert path == "ArtifactName"
    assert parse(document, OVERRIDE).reference is OVERRIDE


def test_name_under_a_host_is_an_image_without_other_names() -> None:
    metadata = {"ImageID": DIGEST, "RepoTags": None}
    report = parse(make_document(ArtifactName="ghcr.io/acme/api:1", Metadata=metadata))
    assert report.reference == Reference("ghcr.io", "acme/api", "1")


@pytest.mark.parametrize("kind", ["cyclonedx", "spdx"])
def test_scan_of_an_sbom_is_recorded_under_the_name_of_the_caller(kind: str) -> None:
    document = make_document(make_vulnerability(), ArtifactType=kind, ArtifactName="nginx:1")
    report = parse(document, OVERRIDE)
    assert (report.reference, len(report.findings)) == (OVERRIDE, 1)
    message = f"is {kind!r}, which does not name an image"
    assert issues_of(document) == [("ArtifactType", message)]
    with pytest.raises(InvalidReport, match="--image REF"):
        parse(document)


@pytest.mark.parametrize(
    "name", ["image.tar", "a/image.tar.gz", "image.tgz", "", None, "sha256:" + "a" * 64, "Nginx"]
)
def test_report_without_image_is_rejected_unless_caller_names_it(name: str | None) -> None:
    with pytest.raises(InvalidReport, match="--image REF"):
        parse(make_document(ArtifactName=name, Metadata=None))
    assert parse(make_document(ArtifactName=name, Metadata=None), OVERRIDE).reference is OVERRIDE


def test_malformed_reference_is_rejected_with_path_and_reason() -> None:
    [(path, message)] = issues_of(make_document(ArtifactName="acme/API", Metadata=None))
    assert path == "ArtifactName"
    assert "lower-case" in message


@pytest.mark.parametrize(
    ("digests", "expected"),
    [
        ([f"nginx@{DIGEST}", f"docker.io/acme/api@{OTHER_DIGEST}"], OTHER_DIGEST),
        ([f"nginx@{DIGEST}", f"docker.io/library/redis@{OTHER_DIGEST}"], DIGEST),
        (["acme/api@sha256:short", f"nginx@{OTHER_DIGEST}"], OTHER_DIGEST),
        ([f"Bad Name@{OTHER_DIGEST}"], OTHER_DIGEST),
        ([OTHER_DIGEST], OTHER_DIGEST),
        (["sha256:short"], None),
        ([], None),
        (None, None),
        ("acme/api", None),
        ([1], None),
    ],
)
def test_digest_with_name_of_the_image_is_preferred(digests: object, expected: str | None) -> None:
    metadata = {"RepoTags": ["acme/api:1"], "RepoDigests": digests}
    document = make_document(ArtifactName="acme/api:1", Metadata=metadata)
    assert expected == parse(document).digest


def test_digest_of_caller_precedes_digest_of_reference_and_reported_digests() -> None:
    metadata = {"RepoDigests": [f"acme/api@{OTHER_DIGEST}"]}
    document = make_document(ArtifactName=f"acme/api@{DIGEST}", Metadata=metadata)
    assert parse(document).digest == DIGEST
    override = Reference("docker.io", "acme/api", None, OTHER_DIGEST)
    assert parse({**document, "Metadata": {}}, override).digest == OTHER_DIGEST


def test_digest_of_scanned_name_is_used_unless_caller_names_another_image() -> None:
    metadata = {"RepoDigests": [f"acme/api@{OTHER_DIGEST}"]}
    document = make_document(ArtifactName=f"acme/api@{DIGEST}", Metadata=metadata)
    assert parse(document, Reference("docker.io", "acme/api", "1")).digest == DIGEST
    assert parse(document, OVERRIDE).digest == OTHER_DIGEST
    assert parse({**document, "Metadata": None}, OVERRIDE).digest is None


def test_malformed_digest_in_reference_is_ignored() -> None:
    """A reference with only a malformed digest does not get the tag `latest`."""
    document = make_document(ArtifactName="localhost:5000/api:1@sha256:short", Metadata=None)
    assert parse(document).reference == Reference("localhost:5000", "api", "1")
    untagged = parse({**document, "ArtifactName": "localhost:5000/api@sha256:short"})
    assert untagged.reference == Reference("localhost:5000", "api")
    assert untagged.digest is None


@pytest.mark.parametrize(
    "name",
    [
        "git@github.com/acme/api:1.0",
        "https://user@ghcr.io/acme/api:1.4",
        "user@ghcr.io/acme/api",
        "http://user:password@ghcr.io/acme/api:1.2",
    ],
)
def test_reference_with_account_is_rejected(name: str) -> None:
    """The account is not parsed as a name, nor its password as a tag."""
    with pytest.raises(InvalidReport):
        parse(make_document(ArtifactName=name, Metadata=None))


@pytest.mark.parametrize(
    "kind", ["filesystem", "repository", "vm", "aws_account", "CONTAINER_IMAGE", "x" * 500]
)
def test_artifact_other_than_image_is_rejected(kind: str) -> None:
    [(path, message)] = issues_of(make_document(ArtifactType=kind))
    assert path == "ArtifactType"
    assert kind[:40] in message
    assert len(message) < 100


@pytest.mark.parametrize("kind", [None, ""])
def test_missing_artifact_type_is_accepted(kind: str | None) -> None:
    assert parse(make_document(ArtifactType=kind)).findings == ()


@pytest.mark.parametrize(
    ("version", "shown"),
    [(1, "1"), (3, "3"), (20, "20"), ("2", '"2"'), (2.0, "2.0"), (None, "null"), ([2], "[2]")],
)
def test_unsupported_schema_version_is_rejected_and_shown(version: object, shown: str) -> None:
    [(path, message)] = issues_of(make_document(SchemaVersion=version))
    assert ("SchemaVersion", f"is {shown}, but only 2 is supported") == (path, message)


def test_missing_schema_version_is_rejected() -> None:
    document = make_document()
    del document["SchemaVersion"]
    assert issues_of(document) == [("SchemaVersion", "is missing, but only 2 is supported")]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"VulnerabilityID": None}, ".VulnerabilityID"),
        ({"VulnerabilityID": ""}, ".VulnerabilityID"),
        ({"VulnerabilityID": 7}, ".VulnerabilityID"),
        ({"VulnerabilityID": "x" * 1001}, ".VulnerabilityID"),
        ({"PkgName": ["a"]}, ".PkgName"),
        ({"InstalledVersion": 1}, ".InstalledVersion"),
        ({"FixedVersion": 1}, ".FixedVersion"),
        ({"Severity": 3}, ".Severity"),
        ({"Title": 1}, ".Title"),
        ({"PrimaryURL": {}}, ".PrimaryURL"),
    ],
)
def test_invalid_field_is_rejected_with_its_path(changes: dict[str, Any], path: str) -> None:
    document = make_document(make_vulnerability(), make_vulnerability(**changes))
    [issue] = issues_of(document)
    assert issue[0] == f"Results[0].Vulnerabilities[1]{path}"


@pytest.mark.parametrize("field", ["VulnerabilityID", "PkgName"])
def test_missing_field_is_rejected_with_its_path(field: str) -> None:
    vulnerability = make_vulnerability()
    del vulnerability[field]
    path = f"Results[0].Vulnerabilities[0].{field}"
    assert issues_of(make_document(vulnerability)) == [(path, "is required")]
    [issue] = issues_of(make_document(Results={}))
    assert issue[0] == "Results"


def test_missing_field_of_result_list_is_rejected_with_its_path() -> None:
    assert issues_of([{"Vulnerabilities": [{"PkgName": "a"}]}]) == [
        ("[0].Vulnerabilities[0].VulnerabilityID", "is required")
    ]


@pytest.mark.parametrize(
    ("source", "cvss", "score"),
    [
        ("nvd", None, None),
        ("nvd", {}, None),
        ("nvd", {"nvd": {"V3Score": 7.5}}, 7.5),
        ("nvd", {"nvd": {"V2Score": 5}}, 5.0),
        ("nvd", {"nvd": {"V2Score": 5, "V40Score": 9.3}}, 9.3),
        ("nvd", {"nvd": {"V3Score": 7.5, "V40Score": 9.3}}, 7.5),
        ("redhat", {"nvd": {"V3Score": 7.5}, "redhat": {"V3Score": 4.8}}, 4.8),
        ("debian", {"nvd": {"V3Score": 7.5}, "redhat": {"V3Score": 4.8}}, 7.5),
        ("redhat", {"nvd": {"V3Score": 7.5}, "redhat": {"V2Score": 4.8}}, 7.5),
        ("debian", {"redhat": {"V3Score": 4.8}, "ghsa": {"V3Score": 6.1}}, 6.1),
        ("debian", {"ghsa": {"V3Score": 6.1}, "nvd": {"V3Score": 7.5}}, 7.5),
        (None, {"redhat": {"V3Score": 4.8}}, 4.8),
        ("nvd", {"nvd": {"V3Score": 11}}, None),
        ("nvd", {"nvd": {"V3Score": -1, "V2Score": 5}}, 5.0),
        ("nvd", {"nvd": {"V3Score": 1e308}}, None),
        ("nvd", {"nvd": {"V3Score": "7.5"}}, None),
        ("nvd", {"nvd": None}, None),
        ("nvd", [7.5], None),
    ],
)
def test_score_of_severity_source_is_preferred_then_nvd(
    source: str, cvss: object, score: float | None
) -> None:
    vulnerability = make_vulnerability(SeveritySource=source, CVSS=cvss)
    [finding] = parse(make_document(vulnerability)).findings
    assert score == finding.cvss_score


@pytest.mark.parametrize(
    ("created_at", "expected"),
    [
        (None, None),
        ("", None),
        ("0001-01-01T00:00:00Z", None),
        ("2026-04-26T14:22:11Z", datetime(2026, 4, 26, 14, 22, 11, tzinfo=UTC)),
        ("2026-04-26t14:22:11.5z", datetime(2026, 4, 26, 14, 22, 11, 500_000, tzinfo=UTC)),
        ("2026-04-26 14:22:11-01:30", datetime(2026, 4, 26, 15, 52, 11, tzinfo=UTC)),
        ("2026-04-26T14:22:11", datetime(2026, 4, 26, 14, 22, 11, tzinfo=UTC)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_finish_time_is_created_at_in_utc(
    created_at: str | None, expected: datetime | None
) -> None:
    assert expected == parse(make_document(CreatedAt=created_at)).finished_at


@pytest.mark.parametrize(
    "created_at",
    [
        "yesterday",
        "2026-04-26",
        "20260426T142211Z",
        "2026-W17-7T14:22:11Z",
        "2026-13-26T14:22:11Z",
        "2026-04-26T25:22:11Z",
        "2026-04-26T14:22:61Z",
        "2026-04-26T14:22:11+25:00",
        "٢٠٢٦-04-26T14:22:11Z",
        "9999-12-31T23:59:59-01:00",
        "2026-04-26T14:22:11Z\n",
        "2026-04-26T14:22:11\0Z",
        1777213331,
    ],
)
def test_malformed_time_is_rejected_with_its_path(created_at: object) -> None:
    [issue] = issues_of(make_document(CreatedAt=created_at))
    assert issue[0] == "CreatedAt"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"created": "2000-01-01T00:00:00Z"}, datetime(2000, 1, 1, tzinfo=UTC)),
        ({"created": "1999-12-31T23:59:59Z"}, None),
        ({"created": "2000-01-01T00:30:00+01:00"}, None),
        ({"created": "1970-01-01T00:00:00Z"}, None),
        ({"created": "0001-01-01T00:00:00Z"}, None),
        ({"created": "soon"}, None),
        ({"created": 5}, None),
        ({"created": None}, None),
        ({}, None),
        (None, None),
        ("x", None),
    ],
)
def test_build_time_before_2000_or_malformed_is_none(
    config: object, expected: datetime | None
) -> None:
    metadata = {"RepoTags": ["a:1"], "ImageConfig": config}
    assert expected == parse(make_document(Metadata=metadata)).built_at


def test_text_with_markup_and_control_characters_is_returned_unchanged() -> None:
    text = "<script>=1+1\x1b[2J\r\n../../etc/passwd'; DROP TABLE images;--\u202e😀"
    vulnerability = make_vulnerability(
        VulnerabilityID=text, PkgName=text, InstalledVersion=text, Title=text, PrimaryURL=text
    )
    [finding] = parse(make_document(vulnerability)).findings
    assert {text} == {
        finding.vulnerability_id,
        finding.package,
        finding.installed_version,
        finding.title,
        finding.url,
    }


def test_title_and_url_are_clipped_and_identifier_is_not() -> None:
    vulnerability = make_vulnerability(
        VulnerabilityID="i" * 200, Title="t" * 5000, PrimaryURL="u" * 5000
    )
    [finding] = parse(make_document(vulnerability)).findings
    assert finding.vulnerability_id == "i" * 200
    assert finding.title == "t" * 500
    assert finding.url == "u" * 2000
