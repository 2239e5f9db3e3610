"""Findings as scanners list them, made distinct."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import TypeVar

from harborguard.model import Finding, Severity

MAX_TITLE = 500
MAX_URL = 2000

_WORDS = {severity.value: severity for severity in Severity} | {
    "informational": Severity.INFO,
    "none": Severity.INFO,
}
_RANKS = {severity: rank for rank, severity in enumerate(Severity)}
_identity = attrgetter("vulnerability_id", "package", "installed_version")
_T = TypeVar("_T")


def parse_severity(word: str | None) -> Severity:
    """A scanner's word for a severity, whatever its case; `unknown` for one not known here."""
    return _WORDS.get((word or "").strip().lower(), Severity.UNKNOWN)


def parse_score(score: float | None) -> float | None:
    """A CVSS base score of 0.0..10.0; one outside is taken as untold, not moved to a bound."""
    return score if score is not None and 0 <= score <= 10 else None


def clip_title(text: str | None) -> str | None:
    """A title of at most `MAX_TITLE` characters; None for an empty one."""
    return text[:MAX_TITLE] if text else None


def clip_url(text: str | None) -> str | None:
    """A link of at most `MAX_URL` characters; None for an empty one."""
    return text[:MAX_URL] if text else None


def drain(entries: list[_T]) -> Iterator[_T]:
    """The entries in order, each let go of once it is passed, so that few are held twice."""
    entries.reverse()
    while entries:
        yield entries.pop()


def list_distinct(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding for each (vulnerability id, package, installed version): worst severity first.

    The same findings give the same list whatever their order (contract, section 5).
    """
    listed = list(findings)
    # Sorts by one field at a time, the last one first: a key of three would be a tuple for each.
    for field in ("installed_version", "package", "vulnerability_id"):
        listed.sort(key=attrgetter(field))
    distinct = [_merge(list(same)) for _, same in groupby(listed, key=_identity)]
    distinct.sort(key=lambda finding: _RANKS[finding.severity])
    return tuple(distinct)


def _merge(same: list[Finding]) -> Finding:
    """The worst severity, the highest score, all sources; of the rest the first that is told."""
    if len(same) == 1:
        return same[0]
    same.sort(key=_precedence)
    scores = [finding.cvss_score for finding in same if finding.cvss_score is not None]
    return replace(
        same[0],
        cvss_score=max(scores, default=None),
        fixed_version=next((f.fixed_version for f in same if f.fixed_version), None),
        title=next((f.title for f in same if f.title), None),
        url=next((f.url for f in same if f.url), None),
        sources=tuple(sorted({source for finding in same for source in finding.sources})),
    )


def _precedence(finding: Finding) -> tuple[int, tuple[str, ...], str, str, str]:
    return (
        _RANKS[finding.severity],
        finding.sources,
        finding.fixed_version or "",
        finding.title or "",
        finding.url or "",
    )
