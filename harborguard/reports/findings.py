"""Normalize and deduplicate the findings of a report."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import TypeVar

from harborguard.model import Finding, Severity

MAX_TITLE = 500  # characters
MAX_URL = 2000  # characters
MAX_PACKAGE = 400  # characters; PostgreSQL limits an index row to 2704 bytes
MAX_VERSION = 1000  # characters of a version or of fixed versions
MAX_SCANNER = 100  # characters
MAX_SCANNERS = 16  # of a scan or a finding

_SEVERITIES = {severity.value.lower(): severity for severity in Severity} | {
    "crit": Severity.CRITICAL,
    "important": Severity.HIGH,  # Red Hat's word, as is "moderate"
    "moderate": Severity.MEDIUM,
    "informational": Severity.INFO,
    "none": Severity.INFO,
}
_MAX_SEVERITY = 100  # characters that are compared
_RANKS = {severity: rank for rank, severity in enumerate(Severity)}
_key = attrgetter("vulnerability_id", "package", "installed_version")
_T = TypeVar("_T")


def parse_severity(text: str | None) -> Severity:
    """Parse a scanner's severity, in any case. Return `unknown` for an unknown one.

    White space around the word and invisible characters are ignored.
    """
    visible = "".join(filter(str.isprintable, (text or "").strip()[:_MAX_SEVERITY]))
    return _SEVERITIES.get(visible.strip().lower(), Severity.UNKNOWN)


def parse_score(score: float | None) -> float | None:
    """Return a CVSS base score, 0.0..10.0 with one decimal; None if missing or out of range.

    PostgreSQL's type real rejects numbers that are too close to zero.
    """
    return round(abs(score), 1) if score is not None and 0 <= score <= 10 else None


def parse_epss(probability: float | None) -> float | None:
    """Return an EPSS probability, 0.0..1.0; None if it is missing or out of range."""
    # `abs` turns a negative zero into zero.
    return abs(probability) if probability is not None and 0 <= probability <= 1 else None


def clip(text: str, max_length: int) -> str:
    """Return the beginning of a text, with U+FFFD for NUL, which PostgreSQL cannot store."""
    return text[:max_length].replace("\0", "\ufffd")


def clip_title(text: str | None) -> str | None:
    """Return the first `MAX_TITLE` characters of a title; None if it is empty."""
    return clip(text, MAX_TITLE) if text else None


def clip_url(text: str | None) -> str | None:
    """Return the first `MAX_URL` characters of a URL; None if it is empty."""
    return clip(text, MAX_URL) if text else None


def clip_versions(text: str | None) -> str | None:
    """Return the first `MAX_VERSION` characters of fixed versions; None if they are empty."""
    return clip(text, MAX_VERSION) if text else None


def normalize_scanners(names: Iterable[str]) -> set[str]:
    """Return the names of scanners in lower case without surrounding white space or empty ones."""
    return {name.strip().lower() for name in names} - {""}


def list_scanners(names: Iterable[str]) -> tuple[str, ...]:
    """Return the first `MAX_SCANNERS` normalized names of scanners by code point, clipped."""
    clipped = {clip(name, MAX_SCANNER) for name in normalize_scanners(names)}
    return tuple(sorted(clipped)[:MAX_SCANNERS])


def drain(entries: list[_T]) -> Iterator[_T]:
    """Yield the entries in order and remove each one from the list.

    The memory of an entry is freed as soon as its finding is made, so all entries and
    all findings of a large report are never in memory at the same time.
    """
    entries.reverse()
    while entries:
        yield entries.pop()


def deduplicate_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return one finding per (vulnerability id, package, installed version), worst severity first.

    The result does not depend on the order of `findings` (contract 5). Package and version are
    clipped after the comparison, so that two long values are not mistaken for one.
    """
    ordered = list(findings)
    # Three stable sorts by one field need less memory than one sort with a tuple per finding.
    for field in ("installed_version", "package", "vulnerability_id"):
        ordered.sort(key=attrgetter(field))
    distinct = [_clip_identity(_merge(list(group))) for _, group in groupby(ordered, key=_key)]
    distinct.sort(key=lambda finding: _RANKS[finding.severity])
    return tuple(distinct)


def _clip_identity(finding: Finding) -> Finding:
    package = clip(finding.package, MAX_PACKAGE)
    version = clip(finding.installed_version, MAX_VERSION)
    if (package, version) == (finding.package, finding.installed_version):
        return finding
    return replace(finding, package=package, installed_version=version)


def _merge(duplicates: list[Finding]) -> Finding:
    """Return one finding with the worst severity, the highest scores and the sources of all.

    Each other field has its first value in the order of `_merge_key`.
    """
    if len(duplicates) == 1:
        return duplicates[0]
    duplicates.sort(key=_merge_key)
    scores = [finding.cvss_score for finding in duplicates if finding.cvss_score is not None]
    epss = [finding.epss for finding in duplicates if finding.epss is not None]
    kev = [finding.kev for finding in duplicates if finding.kev is not None]
    return replace(
        duplicates[0],
        cvss_score=max(scores, default=None),
        epss=max(epss, default=None),
        kev=any(kev) if kev else None,
        fixed_version=next((f.fixed_version for f in duplicates if f.fixed_version), None),
        title=next((f.title for f in duplicates if f.title), None),
        url=next((f.url for f in duplicates if f.url), None),
        sources=list_scanners(source for finding in duplicates for source in finding.sources),
    )


def _merge_key(finding: Finding) -> tuple[int, tuple[str, ...], str, str, str]:
    return (
        _RANKS[finding.severity],
        finding.sources,
        finding.fixed_version or "",
        finding.title or "",
        finding.url or "",
    )
