"""Trivy's JSON report: schema 2, and the bare list of results it wrote before."""

from collections.abc import Iterable, Iterator

from msgspec import Raw, Struct, field
from msgspec.json import Decoder

from harborguard.image_config import parse_build_time
from harborguard.model import Finding, Reference, Report
from harborguard.reports.decoding import (
    Entry,
    Identifier,
    Name,
    Text,
    Word,
    decode,
    read_part,
    read_strings,
)
from harborguard.reports.findings import (
    clip_title,
    clip_url,
    drain,
    list_distinct,
    parse_score,
    parse_severity,
)
from harborguard.reports.image_metadata import (
    choose_digest,
    choose_reference,
    is_file_name,
    is_same_reference,
    read_time,
    require_image,
)

_SCANNERS = ("trivy",)


class _Score(Struct, gc=False):
    v2: float | None = field(name="V2Score", default=None)
    v3: float | None = field(name="V3Score", default=None)
    v4: float | None = field(name="V40Score", default=None)


class _Vulnerability(Entry, gc=False):
    shared = ("package", "installed_version", "fixed_version", "severity", "severity_source")

    id: Identifier = field(name="VulnerabilityID")
    package: Name = field(name="PkgName")
    installed_version: Name | None = field(name="InstalledVersion", default=None)
    fixed_version: Name | None = field(name="FixedVersion", default=None)
    severity: Word | None = field(name="Severity", default=None)
    severity_source: Word | None = field(name="SeveritySource", default=None)
    title: Text | None = field(name="Title", default=None)
    url: Text | None = field(name="PrimaryURL", default=None)
    # A map by vendor: read one at a time, when the finding is made.
    scores: Raw = field(name="CVSS", default=Raw())


class _Result(Entry, gc=False):
    vulnerabilities: list[_Vulnerability] | None = field(name="Vulnerabilities", default=None)


class _Metadata(Struct):
    repo_tags: Raw = field(name="RepoTags", default=Raw())
    repo_digests: Raw = field(name="RepoDigests", default=Raw())
    reference: Word | None = field(name="Reference", default=None)
    image_config: Raw = field(name="ImageConfig", default=Raw())


class _Document(Struct):
    artifact_name: Word | None = field(name="ArtifactName", default=None)
    artifact_type: Word | None = field(name="ArtifactType", default=None)
    created_at: Word | None = field(name="CreatedAt", default=None)
    metadata: _Metadata | None = field(name="Metadata", default=None)
    results: list[_Result] | None = field(name="Results", default=None)


_DOCUMENT = Decoder(_Document)
_RESULTS = Decoder(list[_Result])
_SCORES = Decoder(dict[str, _Score])


def parse_trivy(body: bytes, given: Reference | None) -> Report:
    """A report of schema 2, which must be of a container image. Raises InvalidReport."""
    document = decode(body, _DOCUMENT)
    require_image(document.artifact_type, "container_image", "ArtifactType")
    metadata = document.metadata or _Metadata()
    reference = choose_reference(given, _list_candidates(document, metadata))
    return Report(
        reference=reference,
        findings=_read_findings(document.results or []),
        scanners=_SCANNERS,
        digest=choose_digest(given, reference, read_strings(metadata.repo_digests)),
        built_at=parse_build_time(metadata.image_config),
        finished_at=read_time(document.created_at, "CreatedAt"),
    )


def parse_trivy_results(body: bytes, given: Reference | None) -> Report:
    """A bare list of results; it names no image, so the caller must. Raises InvalidReport."""
    results = decode(body, _RESULTS)
    reference = choose_reference(given, ())
    return Report(
        reference=reference,
        findings=_read_findings(results),
        scanners=_SCANNERS,
        digest=reference.digest,
    )


def _list_candidates(document: _Document, metadata: _Metadata) -> Iterable[tuple[str, str | None]]:
    name = document.artifact_name
    tags = read_strings(metadata.repo_tags)
    scanned = (tag for tag in tags if name and is_same_reference(tag, name))
    yield "Metadata.RepoTags", next(scanned, tags[0] if tags else None)
    yield "Metadata.Reference", metadata.reference
    yield "ArtifactName", None if name and is_file_name(name) else name


def _read_findings(results: list[_Result]) -> tuple[Finding, ...]:
    return list_distinct(
        _make_finding(vulnerability)
        for result in drain(results)
        for vulnerability in drain(result.vulnerabilities or [])
    )


def _make_finding(vulnerability: _Vulnerability) -> Finding:
    return Finding(
        vulnerability_id=vulnerability.id,
        package=vulnerability.package,
        installed_version=vulnerability.installed_version or "",
        severity=parse_severity(vulnerability.severity),
        fixed_version=vulnerability.fixed_version or None,
        cvss_score=_choose_score(vulnerability),
        title=clip_title(vulnerability.title),
        url=clip_url(vulnerability.url),
        sources=_SCANNERS,
    )


def _choose_score(vulnerability: _Vulnerability) -> float | None:
    """The first possible score: version 3 or 4 before 2, and of each the severity's own vendor,
    then NVD, then the others by name.
    """
    by_vendor = read_part(vulnerability.scores, _SCORES)
    if not by_vendor:
        return None
    preferred = (vulnerability.severity_source, "nvd")
    vendors = sorted(by_vendor, key=lambda name: (name != preferred[0], name != "nvd", name))
    scores = [by_vendor[name] for name in vendors]
    return next(_list_possible(scores), None)


def _list_possible(scores: list[_Score]) -> Iterator[float]:
    told = [score for vendor in scores for score in (vendor.v3, vendor.v4)]
    told += [vendor.v2 for vendor in scores]
    return (score for score in map(parse_score, told) if score is not None)
