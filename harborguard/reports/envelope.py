"""Parse the HarborGuard sensor's envelope, version 1.0."""

from datetime import datetime
from typing import Any

from msgspec import Raw, Struct
from msgspec.json import Decoder

from harborguard.errors import InvalidReport, Issue
from harborguard.listing import CountedSeverity
from harborguard.model import Finding, Reference, Report, ScanStatus
from harborguard.references import parse_digest
from harborguard.reports.decoding import (
    MAX_IDENTIFIER,
    Entry,
    Identifier,
    decode,
    decode_optional_part,
    decode_part,
)
from harborguard.reports.findings import (
    clip_title,
    clip_url,
    clip_versions,
    deduplicate_findings,
    drain,
    list_scanners,
    normalize_scanners,
    parse_epss,
    parse_score,
    parse_severity,
)
from harborguard.reports.image_metadata import (
    ReportedNames,
    parse_report_time,
    select_digest,
    select_reference,
)
from harborguard.timestamps import parse_time

_COUNTED = frozenset(CountedSeverity)
# For a report that names no scanner.
_DEFAULT_SCANNERS = ("harborguard-sensor",)
# The sensor runs trivy, grype and osv. Its other scanners (dive, dockle, syft) find no
# vulnerabilities.
_VULNERABILITY_SCANNERS = {
    *("anchore", "clair", "docker-scout", "grype", "osv", "osv-scanner", "snyk", "trivy"),
}

_IDENTIFIER: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_IDENTIFIER,
    "pattern": r"^[^\u0000]*$",
}
_OPTIONAL_TEXT: dict[str, Any] = {"type": ["string", "null"]}
_VULNERABILITY: dict[str, Any] = {
    "type": "object",
    "required": ["cveId", "severity", "packageName"],
    "properties": {
        "cveId": _IDENTIFIER,
        "severity": {"type": "string"},
        "packageName": {"type": "string"},
        "source": _OPTIONAL_TEXT,
        "cvssScore": {"description": "0 to 10. Another value is ignored."},
        "epss": {"description": "0 to 1. Another value is ignored."},
        "kev": {"description": "Whether it is known to be exploited. Ignored unless a boolean."},
        "installedVersion": _OPTIONAL_TEXT,
        "fixedVersion": _OPTIONAL_TEXT,
        "title": _OPTIONAL_TEXT,
        "vulnerabilityUrl": _OPTIONAL_TEXT,
    },
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["version", "scan", "findings"],
    "properties": {
        "version": {"const": "1.0"},
        "image": {
            "type": ["object", "null"],
            "properties": {
                "ref": {
                    "type": ["string", "null"],
                    "description": "Image and tag. Optional with the query parameter `image`.",
                    "examples": ["ghcr.io/acme/api:1.4.7"],
                },
                "digest": {"description": "The manifest digest. A malformed digest is ignored."},
            },
        },
        "scan": {
            "type": "object",
            "required": ["id", "finishedAt", "status"],
            "properties": {
                "id": _IDENTIFIER,
                "startedAt": {"description": "A time. Another value is ignored."},
                "finishedAt": {"type": "string", "format": "date-time"},
                "status": {"enum": [status.value for status in ScanStatus]},
            },
        },
        "findings": {
            "type": "object",
            "required": ["vulnerabilities"],
            "properties": {"vulnerabilities": {"type": ["array", "null"], "items": _VULNERABILITY}},
        },
    },
}
EXAMPLE: dict[str, Any] = {
    "version": "1.0",
    "image": {"ref": "ghcr.io/acme/api:1.4.7"},
    "scan": {
        "id": "b7c1e0f2-nightly",
        "finishedAt": "2026-04-26T14:22:11Z",
        "status": "SUCCESS",
    },
    "findings": {
        "vulnerabilities": [
            {
                "cveId": "CVE-2026-1000",
                "source": "trivy",
                "severity": "HIGH",
                "cvssScore": 7.5,
                "packageName": "openssl",
                "installedVersion": "3.0.1",
                "fixedVersion": "3.0.2",
            }
        ]
    },
}


class _Vulnerability(Entry, gc=False, rename="camel"):
    interned = ("source", "severity", "package_name", "installed_version", "fixed_version")

    cve_id: Identifier
    severity: str
    package_name: str
    source: str | None = None
    cvss_score: Raw = Raw()
    epss: Raw = Raw()
    kev: Raw = Raw()
    title: str | None = None
    installed_version: str | None = None
    fixed_version: str | None = None
    vulnerability_url: str | None = None


class _Findings(Struct):
    # Required, but may be null. A report without the field is incomplete. It does not mean that the
    # scan found nothing.
    vulnerabilities: list[_Vulnerability] | None


class _Image(Struct):
    ref: str | None = None
    digest: Raw = Raw()


class _Scan(Struct, rename="camel"):
    id: Identifier
    finished_at: Identifier
    status: ScanStatus
    started_at: Raw = Raw()


class _Sensor(Struct, rename="camel"):
    scanner_versions: dict[str, Raw] | None = None


class _Document(Struct):
    scan: _Scan
    findings: _Findings
    image: _Image | None = None
    sensor: Raw = Raw()


_DOCUMENT = Decoder(_Document)
_STRING = Decoder(str)
_NUMBER = Decoder(float)
_BOOLEAN = Decoder(bool)
_SENSOR = Decoder(_Sensor)
_OPTIONAL_SENSOR = Decoder(_Sensor | None)


def parse_envelope(body: bytes, override: Reference | None) -> Report:
    """Parse a sensor envelope. Raise InvalidReport.

    `finishedAt` is required and needs a time zone. The envelope's own aggregates are ignored.
    """
    document = decode(body, _DOCUMENT)
    image, scan = document.image or _Image(), document.scan
    digest = parse_digest(decode_optional_part(image.digest, _STRING))
    # The sensor writes a reference, or the path of an archive. It does not list other names.
    names = ReportedNames(
        "image.ref", image.ref, image_ids=[digest], accepts_unlisted=lambda _: True
    )
    reference = select_reference(override, names)
    finished_at = parse_report_time(scan.finished_at, "scan.finishedAt", is_zone_required=True)
    findings = _read_findings(document.findings.vulnerabilities or [])
    declared = _list_sensor_scanners(decode_optional_part(document.sensor, _SENSOR))
    if scan.status.is_finished and not findings:
        _require_vulnerability_scanner(document.sensor)
    # The scanner that failed may be the one whose findings would count.
    has_counted = any(finding.severity.value in _COUNTED for finding in findings)
    is_failed = scan.status is ScanStatus.PARTIAL and not has_counted
    return Report(
        reference=reference,
        findings=findings,
        scanners=_list_scanners(findings, declared),
        status=ScanStatus.FAILED if is_failed else scan.status,
        external_id=scan.id,
        digest=(override and override.digest) or digest or select_digest(reference, names),
        started_at=_parse_optional_time(decode_optional_part(scan.started_at, _STRING)),
        finished_at=finished_at,
        finished_at_path="scan.finishedAt",
    )


def _read_findings(vulnerabilities: list[_Vulnerability]) -> tuple[Finding, ...]:
    sources: dict[str | None, tuple[str, ...]] = {}
    return deduplicate_findings(
        _to_finding(entry, sources.setdefault(entry.source, _as_sources(entry.source)))
        for entry in drain(vulnerabilities)
    )


def _as_sources(source: str | None) -> tuple[str, ...]:
    return list_scanners([source] if source else [])


def _to_finding(entry: _Vulnerability, sources: tuple[str, ...]) -> Finding:
    return Finding(
        vulnerability_id=entry.cve_id,
        package=entry.package_name,
        installed_version=entry.installed_version or "",
        severity=parse_severity(entry.severity),
        fixed_version=clip_versions(entry.fixed_version),
        cvss_score=parse_score(decode_optional_part(entry.cvss_score, _NUMBER)),
        epss=parse_epss(decode_optional_part(entry.epss, _NUMBER)),
        kev=decode_optional_part(entry.kev, _BOOLEAN),
        title=clip_title(entry.title),
        url=clip_url(entry.vulnerability_url),
        sources=sources,
    )


def _parse_optional_time(text: str | None) -> datetime | None:
    try:
        return parse_time(text, is_zone_required=True)
    except ValueError:
        return None


def _list_sensor_scanners(sensor: _Sensor | None) -> list[str]:
    return [name for name in (sensor and sensor.scanner_versions) or () if name]


def _require_vulnerability_scanner(sensor: Raw) -> None:
    """Raise InvalidReport if the sensor names scanners, and none looks for vulnerabilities.

    Raise it too if the sensor cannot be read, because these may be the only scanners it names.
    """
    declared = _list_sensor_scanners(
        decode_part(sensor, _OPTIONAL_SENSOR, "sensor") if sensor else None
    )
    if declared and not normalize_scanners(declared) & _VULNERABILITY_SCANNERS:
        names = ", ".join(sorted(_VULNERABILITY_SCANNERS))
        raise InvalidReport(
            "The report says nothing about vulnerabilities: none of its scanners looks for them.",
            [Issue("sensor.scannerVersions", f"has none of the scanners {names}")],
        )


def _list_scanners(findings: tuple[Finding, ...], declared: list[str]) -> tuple[str, ...]:
    """Return the scanners of the sensor, else the sources of the findings, else the default.

    The set must not depend on which findings there are: contract 6.6 compares scans by it.
    """
    sources = (source for finding in findings for source in finding.sources)
    return list_scanners(declared) or list_scanners(sources) or _DEFAULT_SCANNERS
