"""The HarborGuard sensor's own report, its envelope in version 1.0."""

from msgspec import Raw, Struct
from msgspec.json import Decoder

from harborguard.model import Finding, Reference, Report, ScanStatus
from harborguard.reports.decoding import (
    Entry,
    Identifier,
    Name,
    ShortIdentifier,
    Text,
    Word,
    decode,
    read_part,
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
    read_time,
)

_UNTOLD_SCANNERS = ("harborguard-sensor",)


class _Vulnerability(Entry, gc=False, rename="camel"):
    shared = ("source", "severity", "package_name", "installed_version", "fixed_version")

    cve_id: Identifier
    severity: Word
    package_name: Name
    source: Name | None = None
    cvss_score: float | None = None
    title: Text | None = None
    installed_version: Name | None = None
    fixed_version: Name | None = None
    vulnerability_url: Text | None = None


class _Findings(Struct):
    # Required, if only as null: a report without its list must not look clean.
    vulnerabilities: list[_Vulnerability] | None


class _Image(Struct):
    ref: Word | None = None
    digest: Raw = Raw()


class _Scan(Struct, rename="camel"):
    id: ShortIdentifier
    finished_at: ShortIdentifier
    status: ScanStatus
    started_at: Word | None = None


class _Sensor(Struct, rename="camel"):
    scanner_versions: dict[ShortIdentifier, Raw] | None = None


class _Document(Struct):
    scan: _Scan
    findings: _Findings
    image: _Image | None = None
    sensor: Raw = Raw()


_DOCUMENT = Decoder(_Document)
_STRING = Decoder(str)
_SENSOR = Decoder(_Sensor)


def parse_envelope(body: bytes, given: Reference | None) -> Report:
    """A scan's envelope; its own aggregates are not looked at. Raises InvalidReport.

    `finishedAt` is required, with a zone.
    """
    document = decode(body, _DOCUMENT)
    image, scan = document.image or _Image(), document.scan
    reference = choose_reference(given, [("image.ref", _told_reference(image))])
    finished_at = read_time(scan.finished_at, "scan.finishedAt", is_zone_required=True)
    findings = _read_findings(document.findings.vulnerabilities or [])
    return Report(
        reference=reference,
        findings=findings,
        scanners=_list_scanners(findings, document.sensor),
        status=scan.status,
        external_id=scan.id,
        digest=choose_digest(given, reference, [read_part(image.digest, _STRING)]),
        started_at=read_time(scan.started_at, "scan.startedAt", is_zone_required=True),
        finished_at=finished_at,
    )


def _told_reference(image: _Image) -> str | None:
    # The sensor writes an archive's path here when it was told to scan an archive.
    return None if image.ref and is_file_name(image.ref) else image.ref


def _read_findings(vulnerabilities: list[_Vulnerability]) -> tuple[Finding, ...]:
    sources: dict[str | None, tuple[str, ...]] = {}
    return list_distinct(
        _make_finding(entry, sources.setdefault(entry.source, _as_sources(entry.source)))
        for entry in drain(vulnerabilities)
    )


def _as_sources(source: str | None) -> tuple[str, ...]:
    return (source,) if source else ()


def _make_finding(entry: _Vulnerability, sources: tuple[str, ...]) -> Finding:
    return Finding(
        vulnerability_id=entry.cve_id,
        package=entry.package_name,
        installed_version=entry.installed_version or "",
        severity=parse_severity(entry.severity),
        fixed_version=entry.fixed_version or None,
        cvss_score=parse_score(entry.cvss_score),
        title=clip_title(entry.title),
        url=clip_url(entry.vulnerability_url),
        sources=sources,
    )


def _list_scanners(findings: tuple[Finding, ...], sensor: Raw) -> tuple[str, ...]:
    """Those that found something; else those the sensor ran; else the sensor."""
    sources = {source for finding in findings for source in finding.sources}
    told = read_part(sensor, _SENSOR)
    return tuple(sorted(sources or (told and told.scanner_versions) or ())) or _UNTOLD_SCANNERS
