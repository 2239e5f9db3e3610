"""From findings to a risk score and its letter; arithmetic only."""

from collections import Counter
from collections.abc import Iterable

from harborguard.model import Finding, Grade, Severity, SeverityCounts

# What a grade means: the lowest and the highest score, both inclusive (contract, section 5).
_GRADE_BOUNDS = {
    Grade.A: (0, 24),
    Grade.B: (25, 49),
    Grade.C: (50, 74),
    Grade.D: (75, 100),
}


def count_severities(findings: Iterable[Finding]) -> SeverityCounts:
    """How many findings there are of each counted severity; the caller passes distinct ones."""
    counts = Counter(finding.severity for finding in findings)
    return SeverityCounts(
        critical=counts[Severity.CRITICAL],
        high=counts[Severity.HIGH],
        medium=counts[Severity.MEDIUM],
        low=counts[Severity.LOW],
    )


def risk_score(counts: SeverityCounts) -> int:
    """A score of 0..100, higher is worse (contract, section 5).

    A quarter of the weighted counts, rounded half up, within the band of the worst finding.
    """
    weighted = 25 * counts.critical + 10 * counts.high + 3 * counts.medium + counts.low
    lowest, highest = _band(counts)
    return min(highest, max(lowest, (weighted + 2) // 4))


def grade(score: int) -> Grade:
    """The letter of a score of 0..100; a ValueError for any other number."""
    for letter, (lowest, highest) in _GRADE_BOUNDS.items():
        if lowest <= score <= highest:
            return letter
    raise ValueError(f"no risk score: {score}")


def score_ranges(grades: Iterable[Grade]) -> list[tuple[int, int]]:
    """The inclusive ranges of scores that a set of grades means, ascending.

    Neighbours are one range, so there are at most two; none for no grades.
    """
    ranges: list[tuple[int, int]] = []
    for lowest, highest in sorted(_GRADE_BOUNDS[letter] for letter in set(grades)):
        if ranges and ranges[-1][1] + 1 == lowest:
            ranges[-1] = (ranges[-1][0], highest)
        else:
            ranges.append((lowest, highest))
    return ranges


def _band(counts: SeverityCounts) -> tuple[int, int]:
    if counts.critical:
        return 75, 100
    if counts.high:
        return 25, 74
    return 0, 49
