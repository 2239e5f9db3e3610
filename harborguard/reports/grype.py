"""Grype's JSON report."""

import base64
import re
from collections.abc import Iterable

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
    Word,
    decode,
    decode_part,
    read_part,
    read_strings,
)
from harborguard.reports.findings import (
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
    require_image,
)

_SCANNERS = ("grype",)
# What Grype was told to take the input from stands before the reference in some versions.
# `docker:24` and `registry:2` are images, and `registry:5000/api` has a host: those stay whole.
_PROVIDER = re.compile(
    r"(?:podman|containerd|oci-registry|(?:docker|registry)(?=:.*[:/@])):"
    r"(?![0-9]{1,5}/)(?://)?(.+)"
)
_NO_IMAGE = re.compile(
    r"(?:docker-archive|oci-archive|oci-dir|oci-model|singularity|dir|file|sbom|purl|pkg|snap):"
)


class _Metrics(Struct, gc=False, rename="camel"):
    base_score: float | None = None


class _Score(Struct, gc=False):
    version: Word | None = None
    metrics: _Metrics | None = None


class _Fix(Struct, gc=False):
    versions: Raw = Raw()


class _Vulnerability(Struct, gc=False, rename="camel"):
    id: Identifier
    severity: Word | None = None
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
    user_input: Word | None = None
    tags: Raw = Raw()
    repo_digests: Raw = Raw()
    config: Raw = Raw()


class _Source(Struct):
    type: Word | None = None
    # Text for a directory, an object for an image.
    target: Raw = Raw()


class _Descriptor(Struct):
    timestamp: Word | None = None


class _Document(Struct):
    matches: list[_Match] | None
    source: _Source | None = None
    descriptor: _Descriptor | None = None


_DOCUMENT = Decoder(_Document)
_TARGET = Decoder(_Target | None)
_SCORES = Decoder(list[_Score])
_VERSIONS = Decoder(list[Name] | None)
_STRING = Decoder(str)


def parse_grype(body: bytes, given: Reference | None) -> Report:
    """A report of a container image. Raises InvalidReport."""
    document = decode(body, _DOCUMENT)
    target = _read_target(document.source or _Source())
    reference = choose_reference(given, _list_candidates(target))
    descriptor = document.descriptor or _Descriptor()
    return Report(
        reference=reference,
        findings=_read_findings(document.matches or []),
        scanners=_SCANNERS,
        digest=choose_digest(given, reference, read_strings(target.repo_digests)),
        built_at=parse_build_time(_decode_base64(target.config)),
        finished_at=read_time(descriptor.timestamp, "descriptor.timestamp"),
    )


def _read_target(source: _Source) -> _Target:
    require_image(source.type, "image", "source.type")
    target = decode(source.target, _TARGET, "source.target") if source.target else None
    return target or _Target()


def _list_candidates(target: _Target) -> Iterable[tuple[str, str | None]]:
    yield "source.target.userInput", _strip_provider(target.user_input or "")
    for tag in read_strings(target.tags):
        yield "source.target.tags", tag


def _strip_provider(text: str) -> str | None:
    if _NO_IMAGE.match(text) or is_file_name(text):
        return None
    provided = _PROVIDER.fullmatch(text)
    return provided[1] if provided else text


def _decode_base64(part: Raw) -> Raw:
    try:
        return Raw(base64.b64decode(read_part(part, _STRING) or ""))
    except ValueError:
        return Raw()


def _read_findings(matches: list[_Match]) -> tuple[Finding, ...]:
    return list_distinct(
        _make_finding(match, f"matches[{index}]") for index, match in enumerate(drain(matches))
    )


def _make_finding(match: _Match, path: str) -> Finding:
    vulnerability = match.vulnerability
    return Finding(
        vulnerability_id=vulnerability.id,
        package=match.artifact.name,
        installed_version=match.artifact.version or "",
        severity=parse_severity(vulnerability.severity),
        fixed_version=_join_versions(vulnerability.fix, f"{path}.vulnerability.fix.versions"),
        cvss_score=_choose_score(vulnerability.cvss),
        url=clip_url(vulnerability.data_source),
        sources=_SCANNERS,
    )


def _join_versions(fix: _Fix | None, path: str) -> str | None:
    if fix is None or not fix.versions:
        return None
    joined = ", ".join(decode_part(fix.versions, _VERSIONS, path) or ())
    if len(joined) > MAX_IDENTIFIER:
        message = f"is longer than {MAX_IDENTIFIER} characters"
        raise InvalidReport(f"The report has an overlong version: {path}.", [Issue(path, message)])
    return joined or None


def _choose_score(cvss: Raw) -> float | None:
    """The highest possible base score of version 3; without one, of 4; without one, of any."""
    scores = read_part(cvss, _SCORES) or []
    for version in ("3", "4", ""):
        bases = [
            score.metrics.base_score
            for score in scores
            if score.metrics and (score.version or "").startswith(version)
        ]
        told = [base for base in map(parse_score, bases) if base is not None]
        if told:
            return max(told)
    return None
