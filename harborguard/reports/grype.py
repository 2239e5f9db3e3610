"""Parse Grype's JSON reports."""

import base64
import re
from typing import Any

from msgspec import Raw, Struct, field
from msgspec.json import Decoder

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
    clip_url,
    clip_versions,
    deduplicate_findings,
    drain,
    parse_epss,
    parse_score,
    parse_severity,
)
from harborguard.reports.image_metadata import (
    ReportedNames,
    check_artifact_type,
    find_name,
    parse_report_time,
    select_digest,
    select_reference,
)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["matches"],
    "properties": {"matches": {"type": ["array", "null"], "items": {"type": "object"}}},
}

_SCANNERS = ("grype",)
# Artifact types of reports without an image name: scans of an SBOM or of package names.
_UNKNOWN_TYPES = {"unknown", "sbom", "sbom-file", "purl", "purl-file", "cpe", "cpe-file"}
# Grype writes the scheme of the source before a name or a path, but `docker:24` is also an image.
_SCHEME_AND_REST = re.compile(r"([a-z-]+):([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})(@.*)?")
_NAME_SCHEMES = {"docker", "registry", "podman", "containerd", "oci-registry"}


class _Metrics(Struct, gc=False, rename="camel"):
    base_score: float | None = None


class _Score(Struct, gc=False):
    version: str | None = None
    metrics: _Metrics | None = None


class _Fix(Struct, gc=False):
    versions: Raw = Raw()


class _Vulnerability(Struct, gc=False, rename="camel"):
    id: Identifier
    severity: str | None = None
    data_source: str | None = None
    fix: _Fix | None = None
    cvss: Raw = Raw()
    known_exploited: Raw = Raw()
    epss: Raw = Raw()


class _Epss(Struct, gc=False):
    epss: float | None = None


class _Artifact(Struct, gc=False):
    name: str
    version: str | None = None


class _Match(Entry, gc=False):
    vulnerability: _Vulnerability
    artifact: _Artifact


class _Target(Struct, rename="camel"):
    user_input: str | None = None
    tags: Raw = Raw()
    repo_digests: Raw = Raw()
    image_id: Raw = field(name="imageID", default=Raw())
    manifest_digest: Raw = Raw()
    config: Raw = Raw()


class _Source(Struct):
    type: str | None = None
    # An object for an image, a string for a directory.
    target: Raw = Raw()


class _Descriptor(Struct):
    timestamp: str | None = None


class _Document(Struct):
    matches: list[_Match] | None
    source: _Source | None = None
    descriptor: _Descriptor | None = None


_DOCUMENT = Decoder(_Document)
_TARGET = Decoder(_Target | None)
_SCORES = Decoder(list[_Score])
_EPSS = Decoder(list[_Epss])
_LIST = Decoder(list[Raw])
_VERSIONS = Decoder(list[str] | None)
_STRING = Decoder(str)


def parse_grype(body: bytes, override: Reference | None) -> Report:
    """Parse a Grype report. Raise InvalidReport, including if its source is no image."""
    document = decode(body, _DOCUMENT)
    target = _read_target(document.source or _Source(), override)
    names = _read_names(target)
    reference = select_reference(override, names)
    descriptor = document.descriptor or _Descriptor()
    return Report(
        reference=reference,
        findings=_read_findings(document.matches or []),
        scanners=_SCANNERS,
        digest=select_digest(reference, names),
        built_at=parse_build_time(_decode_base64(target.config)),
        finished_at=parse_report_time(descriptor.timestamp, "descriptor.timestamp"),
        finished_at_path="descriptor.timestamp",
    )


def _read_target(source: _Source, override: Reference | None) -> _Target:
    check_artifact_type(
        source.type,
        "source.type",
        image_type="image",
        unknown_types=_UNKNOWN_TYPES,
        override=override,
    )
    if source.type in _UNKNOWN_TYPES or not source.target:
        return _Target()
    if override:
        return decode_optional_part(source.target, _TARGET) or _Target()
    return decode(source.target, _TARGET, "source.target") or _Target()


def _read_names(target: _Target) -> ReportedNames:
    tags = decode_optional_strings(target.tags)
    repo_digests = decode_optional_strings(target.repo_digests)
    listed = [*tags, *repo_digests]
    ids = [
        decode_optional_part(part, _STRING) for part in (target.image_id, target.manifest_digest)
    ]

    def accepts_unlisted(name: str) -> bool:
        if "/" in name:
            return False
        # A path of one part with a tag is unusual.
        if ":" in name:
            return True
        # A report with neither names nor ids was made by another tool. Its name is accepted.
        return not listed and not any(ids)

    return ReportedNames(
        "source.target.userInput",
        _without_daemon_scheme(target.user_input or "", listed, ids),
        [("source.target.tags", tag) for tag in tags],
        repo_digests,
        ids,
        accepts_unlisted,
    )


def _without_daemon_scheme(text: str, listed: list[str], ids: list[str | None]) -> str | None:
    """Return a scanned text without an ambiguous scheme; None if it is not a name.

    In `docker:nginx`, the first part is a scheme if the report lists the image `nginx`, and a name
    if it lists the image `docker`. In `docker:docker`, it is a name only if the report lists
    exactly that.
    """
    match = _SCHEME_AND_REST.fullmatch(text)
    if match is None:
        return text
    scheme, rest, digest = match.groups(default="")
    # A name with its host is not parsed as a scheme.
    complete = f"docker.io/library/{text}"
    if {text, complete} & {*listed}:
        return complete
    names = {find_name(name) for name in listed}
    if scheme in _NAME_SCHEMES and find_name(rest + digest) in names:
        return f"docker://{rest}{digest}"
    if f"docker.io/library/{scheme}" in names:
        return complete
    is_id = len(rest) > 3 and any(each and each.rpartition(":")[2].startswith(rest) for each in ids)
    is_ambiguous = scheme in {"docker", "registry"} and not rest[0].isdigit()
    return None if scheme in _NAME_SCHEMES and (is_id or is_ambiguous) else text


def _decode_base64(part: Raw) -> Raw:
    try:
        return Raw(base64.b64decode(decode_optional_part(part, _STRING) or ""))
    except ValueError:
        return Raw()


def _read_findings(matches: list[_Match]) -> tuple[Finding, ...]:
    return deduplicate_findings(_to_finding(match) for match in drain(matches))


def _to_finding(match: _Match) -> Finding:
    vulnerability = match.vulnerability
    return Finding(
        vulnerability_id=vulnerability.id,
        package=match.artifact.name,
        installed_version=match.artifact.version or "",
        severity=parse_severity(vulnerability.severity),
        fixed_version=_join_versions(vulnerability.fix),
        cvss_score=_select_score(vulnerability.cvss),
        epss=_select_epss(vulnerability.epss),
        kev=_is_exploited(vulnerability.known_exploited),
        url=clip_url(vulnerability.data_source),
        sources=_SCANNERS,
    )


def _join_versions(fix: _Fix | None) -> str | None:
    versions = decode_optional_part(fix.versions, _VERSIONS) if fix else None
    return clip_versions(", ".join(versions or ()))


def _select_score(cvss: Raw) -> float | None:
    """Return the highest valid base score of CVSS 3, else of CVSS 4, else of any version."""
    scores = decode_optional_part(cvss, _SCORES) or []
    for version in ("3", "4", ""):
        reported = [
            score.metrics.base_score
            for score in scores
            if score.metrics and (score.version or "").startswith(version)
        ]
        valid = [score for score in map(parse_score, reported) if score is not None]
        if valid:
            return max(valid)
    return None


def _select_epss(part: Raw) -> float | None:
    """Return the highest valid probability; there is one for each CVE of an advisory."""
    reported = decode_optional_part(part, _EPSS) or []
    valid = [epss for each in reported if (epss := parse_epss(each.epss)) is not None]
    return max(valid, default=None)


def _is_exploited(part: Raw) -> bool | None:
    """Return whether the catalog of known exploits has an entry; None if Grype reports none."""
    entries = decode_optional_part(part, _LIST)
    return None if entries is None else bool(entries)
