"""Parse Grype's JSON reports."""

import base64
import re
from collections.abc import Iterable
from typing import Any

from msgspec import Raw, Struct
from msgspec.json import Decoder

from harborguard.errors import InvalidReport, Issue
from harborguard.image_config import parse_build_time
from harborguard.model import Finding, Reference, Report
from harborguard.reports.decoding import (
    MAX_IDENTIFIER,
    Entry,
    Identifier,
    Name,
    Text,
    UnstoredText,
    decode,
    decode_optional_part,
    decode_optional_strings,
    decode_part,
)
from harborguard.reports.findings import (
    clip_url,
    deduplicate_findings,
    drain,
    parse_score,
    parse_severity,
)
from harborguard.reports.image_metadata import (
    is_archive_name,
    parse_report_time,
    require_container_image,
    select_digest,
    select_reference,
)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["matches"],
    "properties": {"matches": {"type": ["array", "null"], "items": {"type": "object"}}},
}

_SCANNERS = ("grype",)
# Some releases of Grype write the source provider before the reference (`podman:nginx`).
# `docker:24` and `registry:2` are images, and `registry:5000/api` begins with a host; these have no
# provider.
_PROVIDER = re.compile(
    r"(?:podman|containerd|oci-registry|(?:docker|registry)(?=:.*[:/@])):"
    r"(?![0-9]{1,5}/)(?://)?(.+)"
)
_NON_IMAGE = re.compile(
    r"(?:docker-archive|oci-archive|oci-dir|oci-model|singularity|dir|file|sbom|purl|pkg|snap):"
)


class _Metrics(Struct, gc=False, rename="camel"):
    base_score: float | None = None


class _Score(Struct, gc=False):
    version: UnstoredText | None = None
    metrics: _Metrics | None = None


class _Fix(Struct, gc=False):
    versions: Raw = Raw()


class _Vulnerability(Struct, gc=False, rename="camel"):
    id: Identifier
    severity: UnstoredText | None = None
    data_source: Text | None = None
    fix: _Fix | None = None
    cvss: Raw = Raw()


class _Artifact(Struct, gc=False):
    name: Name
    version: Name | None = None


class _Match(Entry, gc=False):
    vulnerability: _Vulnerability
    artifact: _Artifact


class _Target(Struct, rename="camel"):
    user_input: UnstoredText | None = None
    tags: Raw = Raw()
    repo_digests: Raw = Raw()
    config: Raw = Raw()


class _Source(Struct):
    type: UnstoredText | None = None
    # An object for an image, a string for a directory.
    target: Raw = Raw()


class _Descriptor(Struct):
    timestamp: UnstoredText | None = None


class _Document(Struct):
    matches: list[_Match] | None
    source: _Source | None = None
    descriptor: _Descriptor | None = None


_DOCUMENT = Decoder(_Document)
_TARGET = Decoder(_Target | None)
_SCORES = Decoder(list[_Score])
_VERSIONS = Decoder(list[Name] | None)
_STRING = Decoder(str)


def parse_grype(body: bytes, override: Reference | None) -> Report:
    """Parse a Grype report. Raise InvalidReport, including if its source is no image."""
    document = decode(body, _DOCUMENT)
    target = _read_target(document.source or _Source())
    reference = select_reference(override, _list_candidates(target))
    descriptor = document.descriptor or _Descriptor()
    return Report(
        reference=reference,
        findings=_read_findings(document.matches or []),
        scanners=_SCANNERS,
        digest=select_digest(override, reference, decode_optional_strings(target.repo_digests)),
        built_at=parse_build_time(_decode_base64(target.config)),
        finished_at=parse_report_time(descriptor.timestamp, "descriptor.timestamp"),
        finished_at_path="descriptor.timestamp",
    )


def _read_target(source: _Source) -> _Target:
    require_container_image(source.type, "image", "source.type")
    target = decode(source.target, _TARGET, "source.target") if source.target else None
    return target or _Target()


def _list_candidates(target: _Target) -> Iterable[tuple[str, str | None]]:
    yield "source.target.userInput", _strip_provider(target.user_input or "")
    for tag in decode_optional_strings(target.tags):
        yield "source.target.tags", tag


def _strip_provider(text: str) -> str | None:
    if _NON_IMAGE.match(text) or is_archive_name(text):
        return None
    match = _PROVIDER.fullmatch(text)
    return match[1] if match else text


def _decode_base64(part: Raw) -> Raw:
    try:
        return Raw(base64.b64decode(decode_optional_part(part, _STRING) or ""))
    except ValueError:
        return Raw()


def _read_findings(matches: list[_Match]) -> tuple[Finding, ...]:
    return deduplicate_findings(
        _to_finding(match, f"matches[{index}]") for index, match in enumerate(drain(matches))
    )


def _to_finding(match: _Match, path: str) -> Finding:
    vulnerability = match.vulnerability
    return Finding(
        vulnerability_id=vulnerability.id,
        package=match.artifact.name,
        installed_version=match.artifact.version or "",
        severity=parse_severity(vulnerability.severity),
        fixed_version=_join_versions(vulnerability.fix, f"{path}.vulnerability.fix.versions"),
        cvss_score=_select_score(vulnerability.cvss),
        url=clip_url(vulnerability.data_source),
        sources=_SCANNERS,
    )


def _join_versions(fix: _Fix | None, path: str) -> str | None:
    if fix is None or not fix.versions:
        return None
    joined = ", ".join(decode_part(fix.versions, _VERSIONS, path) or ())
    if len(joined) > MAX_IDENTIFIER:
        message = f"is longer than {MAX_IDENTIFIER} characters"
        raise InvalidReport(f"The fixed versions are too long: {path}.", [Issue(path, message)])
    return joined or None


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
