"""Parsing Grype's JSON reports."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from harborguard.errors import InvalidReport
from harborguard.model import Finding, Reference, Report, Severity
from tests.support.report_documents import DIGEST, OTHER_DIGEST, issues_of, parse

OVERRIDE = Reference("quay.io", "acme/tool", "7")


def make_match(artifact: object = None, **vulnerability: Any) -> dict[str, Any]:
    return {
        "vulnerability": {
            "id": "CVE-2024-2222",
            "dataSource": "https://example.org/CVE-2024-2222",
            "severity": "Medium",
            "description": "skipped",
            "urls": ["https://example.org/skipped"],
            "cvss": [
                {"version": "2.0", "metrics": {"baseScore": 9.9}},
                {"version": "3.1", "metrics": {"baseScore": 5.3}},
                {"version": "3.0", "metrics": {"baseScore": 5.5}},
            ],
            "fix": {"versions": ["1.3", "2.0"], "state": "fixed"},
            **vulnerability,
        },
        "artifact": artifact or {"name": "zlib", "version": "1.2", "type": "deb"},
    }


def make_document(*matches: dict[str, Any], **target: Any) -> dict[str, Any]:
    config = json.dumps({"created": "2026-04-01T10:00:00Z"}).encode()
    return {
        "matches": list(matches),
        "source": {
            "type": "image",
            "target": {
                "userInput": "ghcr.io/acme/api:1.4",
                "imageID": DIGEST,
                "manifestDigest": DIGEST,
                "tags": ["ghcr.io/acme/api:1.3"],
                "repoDigests": [f"ghcr.io/acme/api@{OTHER_DIGEST}"],
                "config": base64.b64encode(config).decode(),
                **target,
            },
        },
        "descriptor": {"name": "grype", "timestamp": "2026-04-26T14:22:11.123456789+02:00"},
    }


def test_grype_report_gives_complete_report() -> None:
    assert parse(make_document(make_match())) == Report(
        reference=Reference("ghcr.io", "acme/api", "1.4"),
        findings=(
            Finding(
                vulnerability_id="CVE-2024-2222",
                package="zlib",
                installed_version="1.2",
                severity=Severity.MEDIUM,
                fixed_version="1.3, 2.0",
                cvss_score=5.5,
                url="https://example.org/CVE-2024-2222",
                sources=("grype",),
            ),
        ),
        scanners=("grype",),
        digest=OTHER_DIGEST,
        built_at=datetime(2026, 4, 1, 10, tzinfo=UTC),
        finished_at=datetime(2026, 4, 26, 12, 22, 11, 123456, tzinfo=UTC),
        finished_at_path="descriptor.timestamp",
    )


def test_report_with_only_required_fields_is_parsed() -> None:
    document = {"matches": [{"vulnerability": {"id": "X-1"}, "artifact": {"name": "p"}}]}
    finding = Finding("X-1", "p", "", Severity.UNKNOWN, sources=("grype",))
    assert parse(document, OVERRIDE) == Report(
        OVERRIDE, (finding,), ("grype",), finished_at_path="descriptor.timestamp"
    )


@pytest.mark.parametrize("document", [{"matches": None}, {"matches": []}])
def test_report_without_matches_gives_no_findings(document: object) -> None:
    assert parse(document, OVERRIDE).findings == ()


def test_vulnerability_on_several_paths_gives_one_finding() -> None:
    assert len(parse(make_document(make_match(), make_match(severity="Low"))).findings) == 1


@pytest.mark.parametrize(
    ("user_input", "expected"),
    [
        ("nginx:1", "docker.io/library/nginx:1"),
        ("ghcr.io/acme/api", "ghcr.io/acme/api:latest"),
        ("docker:nginx:1.27", "docker.io/library/nginx:1.27"),
        ("docker:acme/api", "docker.io/acme/api:latest"),
        ("docker:24", "docker.io/library/docker:24"),
        ("docker:5000/api", "docker:5000/api:latest"),
        ("docker://nginx", "docker.io/library/nginx:latest"),
        ("registry:ghcr.io/acme/api:2", "ghcr.io/acme/api:2"),
        ("registry:localhost:5000/api", "localhost:5000/api:latest"),
        ("registry:2", "docker.io/library/registry:2"),
        ("registry:5000/api:3", "registry:5000/api:3"),
        ("podman:nginx", "docker.io/library/nginx:latest"),
        ("podman:localhost/api:1", "localhost/api:1"),
        ("containerd:docker.io/library/redis:7", "docker.io/library/redis:7"),
        ("docker:dind", "docker.io/library/tagged:1"),
        ("nginx", "docker.io/library/tagged:1"),
        ("build/out", "docker.io/library/tagged:1"),
        ("layouts/alpine:3.19", "docker.io/library/tagged:1"),
        ("docker-archive:/tmp/api.tar", "docker.io/library/tagged:1"),
        ("oci-dir:layout", "docker.io/library/tagged:1"),
        ("dir:app", "docker.io/library/tagged:1"),
        ("sbom:x.json", "docker.io/library/tagged:1"),
        ("api.tar", "docker.io/library/tagged:1"),
        ("images/api.tgz", "docker.io/library/tagged:1"),
        ("/tmp/layout", "docker.io/library/tagged:1"),
        ("./layout", "docker.io/library/tagged:1"),
        ("sha256:" + "a" * 64, "docker.io/library/tagged:1"),
        ("sha256:" + "a" * 12, "docker.io/library/tagged:1"),
        ("aaaaaaa:latest", "docker.io/library/tagged:1"),
        ("docker:aaaaaaaaaaaa", "docker.io/library/tagged:1"),
        ("podman:aaaaaaaaaaaa", "docker.io/library/tagged:1"),
        ("", "docker.io/library/tagged:1"),
        (None, "docker.io/library/tagged:1"),
    ],
)
def test_reference_is_user_input_else_first_tag(user_input: str | None, expected: str) -> None:
    reference = parse(make_document(userInput=user_input, tags=["tagged:1", "tagged:2"])).reference
    assert expected == f"{reference.name}:{reference.tag}"


@pytest.mark.parametrize(
    ("user_input", "tags", "expected"),
    [
        ("docker:nginx", ["nginx:latest"], "docker.io/library/nginx:latest"),
        ("docker:nginx", ["docker.io/library/nginx:latest"], "docker.io/library/nginx:latest"),
        ("registry:alpine", ["alpine:latest"], "docker.io/library/alpine:latest"),
        ("registry:3", ["registry:3"], "docker.io/library/registry:3"),
        ("docker:24", ["docker:24"], "docker.io/library/docker:24"),
        ("docker:24", ["mirror.test/d:1", "docker:24"], "docker.io/library/docker:24"),
        ("docker:dind", ["docker:dind"], "docker.io/library/docker:dind"),
        ("docker:docker", ["docker:latest"], "docker.io/library/docker:latest"),
        ("docker:docker", ["docker:docker"], "docker.io/library/docker:docker"),
        ("docker:dind", ["docker:24", "docker:26"], "docker.io/library/docker:dind"),
        ("registry:registry", ["registry:latest"], "docker.io/library/registry:latest"),
        ("podman:podman", ["quay.io/podman:1"], "docker.io/library/podman:latest"),
        ("podman:5", ["podman:5"], "docker.io/library/podman:5"),
        ("podman:stable", ["podman:stable"], "docker.io/library/podman:stable"),
        ("oci:stable", ["oci:stable"], "docker.io/library/oci:stable"),
        ("build/out", ["podman:stable"], "docker.io/library/podman:stable"),
        ("containerd:redis", ["redis:latest"], "docker.io/library/redis:latest"),
        ("api", ["localhost/api:latest"], "localhost/api:latest"),
        ("nginx", ["b:1", "nginx:latest"], "docker.io/library/nginx:latest"),
        ("build/out", ["ghcr.io/demo/layout:2.1"], "ghcr.io/demo/layout:2.1"),
        (f"ghcr.io/a/b@{DIGEST}", ["c:1", "ghcr.io/a/b:2"], "ghcr.io/a/b:2"),
        ("test-image:latest", [], "docker.io/library/test-image:latest"),
    ],
)
def test_tags_tell_a_scheme_or_a_path_from_a_name(
    user_input: str, tags: list[str], expected: str
) -> None:
    document = make_document(userInput=user_input, tags=tags, repoDigests=[])
    reference = parse(document).reference
    assert expected == f"{reference.name}:{reference.tag}"


def test_repo_digests_tell_a_scheme_from_a_name() -> None:
    document = make_document(userInput="docker:nginx", tags=[], repoDigests=[f"nginx@{DIGEST}"])
    assert parse(document).reference == Reference("docker.io", "library/nginx", "latest")
    document = make_document(userInput="docker:dind", tags=[], repoDigests=[f"docker@{DIGEST}"])
    assert parse(document).reference == Reference("docker.io", "library/docker", "dind")


@pytest.mark.parametrize(
    "user_input", ["build/out", "out", "layouts/alpine:3.19", "docker:nginx", "aaaaaaaaaaaa"]
)
def test_path_id_or_ambiguous_scheme_without_tags_is_rejected(user_input: str) -> None:
    document = make_document(userInput=user_input, tags=[], repoDigests=[])
    with pytest.raises(InvalidReport, match="--image REF"):
        parse(document)
    assert parse(document, OVERRIDE).reference is OVERRIDE


def test_reference_of_the_caller_overrides_the_report() -> None:
    assert parse(make_document(), OVERRIDE).reference is OVERRIDE


@pytest.mark.parametrize("tags", [[], None, "nginx", ["Bad Tag"]])
def test_report_without_image_is_rejected(tags: object) -> None:
    with pytest.raises(InvalidReport, match=r"--image REF .* \?image=REF"):
        parse(make_document(userInput="api.tar", tags=tags))


def test_malformed_references_are_reported_in_at_most_ten_issues() -> None:
    issues = issues_of(make_document(userInput="A", tags=["B"] * 2000))
    assert [path for path, _ in issues[:2]] == ["source.target.userInput", "source.target.tags"]
    assert len(issues) == 10


def test_tags_after_the_first_thousand_are_ignored() -> None:
    tags = ["Bad Tag"] * 999 + ["good:1", "late:1"]
    assert parse(make_document(userInput="", tags=tags)).reference.repository == "library/good"
    with pytest.raises(InvalidReport):
        parse(make_document(userInput="", tags=["Bad Tag", *tags]))


@pytest.mark.parametrize("kind", ["directory", "file", "snap", "Image"])
def test_source_other_than_image_is_rejected(kind: str) -> None:
    document = {**make_document(), "source": {"type": kind, "target": "/srv/app"}}
    [(path, message)] = issues_of(document)
    assert path == "source.type"
    assert kind in message
    with pytest.raises(InvalidReport, match="does not describe a container image"):
        parse(document, OVERRIDE)


@pytest.mark.parametrize("kind", ["unknown", "sbom", "sbom-file", "purl", "purl-file", "cpe"])
@pytest.mark.parametrize("target", ["unknown", "nginx:1", None, {"userInput": "nginx:1"}, ["x"]])
def test_source_without_a_name_is_recorded_under_the_name_of_the_caller(
    kind: str, target: object
) -> None:
    document = {**make_document(make_match()), "source": {"type": kind, "target": target}}
    report = parse(document, OVERRIDE)
    assert (report.reference, report.digest, len(report.findings)) == (OVERRIDE, None, 1)
    assert issues_of(document) == [("source.type", f"is {kind!r}, which does not name an image")]


def test_invalid_target_is_rejected_with_its_path() -> None:
    document = {**make_document(), "source": {"type": "image", "target": {"userInput": 7}}}
    assert [path for path, _ in issues_of(document)] == ["source.target.userInput"]
    document = {**make_document(), "source": {"type": "image", "target": "nginx"}}
    assert [path for path, _ in issues_of(document)] == ["source.target"]
    assert parse(document, OVERRIDE).reference is OVERRIDE
    document = {**make_document(), "source": {"type": "image", "target": None}}
    assert parse(document, OVERRIDE).reference is OVERRIDE


@pytest.mark.parametrize(
    ("repo_digests", "expected"),
    [
        ([f"nginx@{DIGEST}", f"ghcr.io/acme/api@{OTHER_DIGEST}"], OTHER_DIGEST),
        ([f"nginx@{DIGEST}"], DIGEST),
        (["nginx@sha256:test"], None),
        ([], None),
        (None, None),
        (7, None),
    ],
)
def test_digest_comes_from_repo_digests_not_manifest_digest(
    repo_digests: object, expected: str | None
) -> None:
    assert expected == parse(make_document(repoDigests=repo_digests)).digest


def test_digest_of_scanned_name_is_used_unless_caller_names_another_image() -> None:
    digests = [f"ghcr.io/acme/api@{OTHER_DIGEST}"]
    document = make_document(userInput=f"ghcr.io/acme/api@{DIGEST}", repoDigests=digests)
    assert parse(document, Reference("ghcr.io", "acme/api", "1")).digest == DIGEST
    assert parse(document, OVERRIDE).digest == OTHER_DIGEST
    document = make_document(userInput=f"ghcr.io/acme/api@{DIGEST}", repoDigests=[])
    assert parse(document, OVERRIDE).digest is None


@pytest.mark.parametrize(
    "config",
    [
        None,
        "",
        7,
        "not base64",
        "é",
        base64.b64encode(b"not json").decode(),
        base64.b64encode(b'{"created": 7}').decode(),
        base64.b64encode(b'{"created": "1970-01-01T00:00:00Z"}').decode(),
        base64.b64encode(b"[" * 100_000).decode(),
        base64.b64encode(
            b'{"created": "2026-04-01T10:00:00Z", "x": "%s"}' % (b"x" * 900_000)
        ).decode(),
    ],
)
def test_unreadable_build_time_is_none(config: object) -> None:
    assert parse(make_document(config=config)).built_at is None


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (None, None),
        ([], None),
        ([("2.0", 4.3)], 4.3),
        ([("2.0", 9.9), ("3.1", 5.3)], 5.3),
        ([("4.0", 9.3), ("2.0", 9.9)], 9.3),
        ([("4.0", 9.3), ("3.1", 5.3), ("3.0", 6.1)], 6.1),
        ([("3.1", 11), ("2.0", 4.3)], 4.3),
        ([("3.1", -1)], None),
        ([("3.1", None)], None),
        ([("", 4.4)], 4.4),
        ([("3.1", "5.3")], None),
    ],
)
def test_score_is_the_highest_of_cvss_3_else_4_else_2(scores: Any, expected: float | None) -> None:
    cvss = scores and [
        {"version": version, "metrics": {"baseScore": score}} for version, score in scores
    ]
    [finding] = parse(make_document(make_match(cvss=cvss))).findings
    assert expected == finding.cvss_score


@pytest.mark.parametrize(
    ("fields", "epss", "kev"),
    [
        ({}, None, None),
        ({"epss": [{"cve": "CVE-1", "epss": 0.5, "percentile": 0.9}]}, 0.5, None),
        ({"epss": [{"epss": 0.1}, {"epss": 0.7}, {"epss": 1.2}, {}]}, 0.7, None),
        ({"epss": [{"epss": 0}]}, 0.0, None),
        ({"epss": [{"epss": 1}]}, 1.0, None),
        ({"epss": [{"epss": -0.1}]}, None, None),
        ({"epss": [{"epss": "0.5"}]}, None, None),
        ({"epss": []}, None, None),
        ({"epss": 0.5}, None, None),
        ({"knownExploited": [{"cve": "CVE-1"}]}, None, True),
        ({"knownExploited": []}, None, False),
        ({"knownExploited": None}, None, None),
        ({"knownExploited": "yes"}, None, None),
    ],
)
def test_epss_and_known_exploit_are_read_or_none(
    fields: dict[str, Any], epss: float | None, kev: bool | None
) -> None:
    [finding] = parse(make_document(make_match(**fields))).findings
    assert (finding.epss, finding.kev) == (epss, kev)


@pytest.mark.parametrize(
    ("fix", "expected"),
    [
        (None, None),
        ({}, None),
        ({"versions": None}, None),
        ({"versions": [], "state": "not-fixed"}, None),
        ({"versions": [""]}, None),
        ({"versions": ["1.3"]}, "1.3"),
        ({"versions": ["1.3\0", "2"]}, "1.3\ufffd, 2"),
        ({"versions": ["x" * 600, "y" * 600]}, "x" * 600 + ", " + "y" * 398),
        ({"versions": ["x"] * 300_000}, None),
        ({"versions": "1"}, None),
        ({"versions": ["1", 2]}, None),
    ],
)
def test_fixed_versions_are_joined_or_none(fix: object, expected: str | None) -> None:
    [finding] = parse(make_document(make_match(fix=fix))).findings
    assert expected == finding.fixed_version


@pytest.mark.parametrize(
    ("match", "path"),
    [
        (make_match(id=None), ".vulnerability.id"),
        (make_match(id=""), ".vulnerability.id"),
        (make_match(id="a\0"), ".vulnerability.id"),
        (make_match(severity=1), ".vulnerability.severity"),
        (make_match(fix=[]), ".vulnerability.fix"),
        (make_match({"version": "1"}), ".artifact.name"),
        (make_match({"name": "p", "version": 1}), ".artifact.version"),
        ({"artifact": {"name": "p"}}, ".vulnerability"),
        ({"vulnerability": {"id": "X"}}, ".artifact"),
        (None, ""),
    ],
)
def test_invalid_field_is_rejected_with_its_path(match: Any, path: str) -> None:
    [issue] = issues_of(make_document(make_match(), match))
    assert issue[0] == f"matches[1]{path}"


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [(None, None), ("", None), ("0001-01-01T00:00:00Z", None)],
)
def test_missing_time_is_none(timestamp: str | None, expected: datetime | None) -> None:
    document = {**make_document(), "descriptor": {"timestamp": timestamp}}
    assert expected is parse(document).finished_at
    assert parse({**document, "descriptor": None}).finished_at is None


def test_malformed_time_is_rejected_with_its_path() -> None:
    document = {**make_document(), "descriptor": {"timestamp": "noon"}}
    assert [path for path, _ in issues_of(document)] == ["descriptor.timestamp"]
