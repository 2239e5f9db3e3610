"""Parse Trivy's JSON reports: schema 2, and the array of results that older releases write."""

from collections.abc import Iterator
from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType, field
from msgspec.json import Decoder

from harborguard.errors import InvalidReport, Issue
from harborguard.image_config import parse_build_time
from harborguard.model import Finding, Reference, Report
from harborguard.reports.decoding import (
    Entry,
    Identifier,
    decode,
    decode_optional_part,
    decode_optional_strings,
)
from harborguard.reports.findings import (
    clip_title,
    clip_url,
    clip_versions,
    deduplicate_findings,
    drain,
    parse_score,
    parse_severity,
)
from harborguard.reports.image_metadata import (
    ReportedNames,
    check_artifact_type,
    parse_report_time,
    select_digest,
    select_reference,
)

_SCANNERS = ("trivy",)
# Artifact types of reports without an image name: scans of an SBOM.
_UNKNOWN_TYPES = {"cyclonedx", "spdx"}
# Classes of results that list packages. Other classes are about secrets, licences or configuration.
_PACKAGE_CLASSES = {"os-pkgs", "lang-pkgs"}
_NO_CLASS = {b"", b"null", b'""'}  # JSON

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["SchemaVersion"],
    "properties": {
        "SchemaVersion": {"const": 2},
        "ArtifactName": {"type": ["string", "null"]},
        "Results": {"type": ["array", "null"], "items": {"type": "object"}},
    },
}
RESULTS_SCHEMA: dict[str, Any] = {
    "description": "Requires the query parameter `image`.",
    "type": "array",
    "items": {"type": "object"},
}


class _Score(Struct, gc=False):
    v2: float | None = field(name="V2Score", default=None)
    v3: float | None = field(name="V3Score", default=None)
    v4: float | None = field(name="V40Score", default=None)


class _Vulnerability(Entry, gc=False):
    interned = ("package", "installed_version", "fixed_version", "severity", "severity_source")

    id: Identifier = field(name="VulnerabilityID")
    package: str = field(name="PkgName")
    installed_version: str | None = field(name="InstalledVersion", default=None)
    fixed_version: str | None = field(name="FixedVersion", default=None)
    severity: str | None = field(name="Severity", default=None)
    severity_source: str | None = field(name="SeveritySource", default=None)
    title: str | None = field(name="Title", default=None)
    url: str | None = field(name="PrimaryURL", default=None)
    # A map by vendor. Only one of these maps is decoded at a time, when its finding is made.
    scores: Raw = field(name="CVSS", default=Raw())


class _Result(Entry, gc=False):
    result_class: Raw = field(name="Class", default=Raw())
    packages: Raw = field(name="Packages", default=Raw())
    vulnerabilities: list[_Vulnerability] | UnsetType | None = field(
        name="Vulnerabilities", default=UNSET
    )


class _Metadata(Struct):
    repo_tags: Raw = field(name="RepoTags", default=Raw())
    repo_digests: Raw = field(name="RepoDigests", default=Raw())
    reference: Raw = field(name="Reference", default=Raw())
    image_id: Raw = field(name="ImageID", default=Raw())
    image_config: Raw = field(name="ImageConfig", default=Raw())


class _Document(Struct):
    artifact_name: str | None = field(name="ArtifactName", default=None)
    artifact_type: str | None = field(name="ArtifactType", default=None)
    created_at: str | None = field(name="CreatedAt", default=None)
    metadata: _Metadata | None = field(name="Metadata", default=None)
    results: list[_Result] | None = field(name="Results", default=None)


_DOCUMENT = Decoder(_Document)
_RESULTS = Decoder(list[_Result])
_SCORES = Decoder(dict[str, _Score])
_STRING = Decoder(str)


def parse_trivy(body: bytes, override: Reference | None) -> Report:
    """Parse a report of schema 2. Raise InvalidReport, including if its artifact is no image."""
    document = decode(body, _DOCUMENT)
    check_artifact_type(
        document.artifact_type,
        "ArtifactType",
        image_type="container_image",
        unknown_types=_UNKNOWN_TYPES,
        override=override,
    )
    metadata = document.metadata or _Metadata()
    names = _read_names(document, metadata)
    reference = select_reference(override, names)
    return Report(
        reference=reference,
        findings=_read_findings(document.results or [], "Results"),
        scanners=_SCANNERS,
        digest=select_digest(reference, names),
        built_at=parse_build_time(metadata.image_config),
        finished_at=parse_report_time(document.created_at, "CreatedAt"),
        finished_at_path="CreatedAt",
    )


def parse_trivy_results(body: bytes, override: Reference | None) -> Report:
    """Parse an array of results. Raise InvalidReport, including if `override` is None."""
    results = decode(body, _RESULTS)
    reference = select_reference(override, ReportedNames("$", None))
    return Report(
        reference=reference,
        findings=_read_findings(results, "$"),
        scanners=_SCANNERS,
        digest=reference.digest,
    )


def _read_names(document: _Document, metadata: _Metadata) -> ReportedNames:
    repo_digests = decode_optional_strings(metadata.repo_digests)
    tags = [("Metadata.RepoTags", tag) for tag in decode_optional_strings(metadata.repo_tags)]
    if reference := decode_optional_part(metadata.reference, _STRING):
        tags.append(("Metadata.Reference", reference))
    image_id = decode_optional_part(metadata.image_id, _STRING)

    def accepts_unlisted(name: str) -> bool:
        if tags or repo_digests:
            # Trivy lists names for an image of a daemon or a registry, so this is no path of an
            # image layout, such as `layouts/api:1`.
            return ":" in name
        # A report with neither names nor an id was made by another tool. Its name is accepted if it
        # cannot be a path.
        return not image_id and "/" not in name

    return ReportedNames(
        "ArtifactName",
        document.artifact_name,
        tags,
        repo_digests,
        [image_id],
        accepts_unlisted,
    )


def _read_findings(results: list[_Result], path: str) -> tuple[Finding, ...]:
    """Return the findings of the results; raise InvalidReport if no result lists packages."""
    if not any(_lists_packages(result) for result in results):
        raise InvalidReport(
            "The report says nothing about vulnerabilities. Scan with `trivy image --scanners vuln "
            "--list-all-pkgs --format json IMAGE`. If Trivy finds no packages in the image, scan "
            "it with Grype.",
            [Issue(path, "has no result for packages (os-pkgs or lang-pkgs)")],
        )
    return deduplicate_findings(
        _to_finding(vulnerability)
        for result in drain(results)
        for vulnerability in drain(result.vulnerabilities or [])
    )


def _lists_packages(result: _Result) -> bool:
    """Return whether the scanner looked for vulnerabilities in packages.

    Results with a class list packages if it is a class of packages. Old versions of Trivy write no
    class: their results list packages if they have the key `Vulnerabilities`, which may be null, or
    an array `Packages`.
    """
    if result.vulnerabilities:
        return True
    if bytes(memoryview(result.result_class)[:5]) not in _NO_CLASS:
        return decode_optional_part(result.result_class, _STRING) in _PACKAGE_CLASSES
    return result.vulnerabilities is not UNSET or bytes(memoryview(result.packages)[:1]) == b"["


def _to_finding(vulnerability: _Vulnerability) -> Finding:
    return Finding(
        vulnerability_id=vulnerability.id,
        package=vulnerability.package,
        installed_version=vulnerability.installed_version or "",
        severity=parse_severity(vulnerability.severity),
        fixed_version=clip_versions(vulnerability.fixed_version),
        cvss_score=_select_score(vulnerability),
        title=clip_title(vulnerability.title),
        url=clip_url(vulnerability.url),
        sources=_SCANNERS,
    )


def _select_score(vulnerability: _Vulnerability) -> float | None:
    """Return the first valid score: CVSS 3 or 4 of any vendor, else CVSS 2.

    The vendor that set the severity comes first, then NVD, then the others by name.
    """
    by_vendor = decode_optional_part(vulnerability.scores, _SCORES)
    if not by_vendor:
        return None
    source = vulnerability.severity_source
    vendors = sorted(by_vendor, key=lambda name: (name != source, name != "nvd", name))
    scores = [by_vendor[name] for name in vendors]
    return next(_list_valid_scores(scores), None)


def _list_valid_scores(by_vendor: list[_Score]) -> Iterator[float]:
    scores = [score for vendor in by_vendor for score in (vendor.v3, vendor.v4)]
    scores += [vendor.v2 for vendor in by_vendor]
    return (score for score in map(parse_score, scores) if score is not None)
