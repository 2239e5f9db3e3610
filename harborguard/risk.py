"""Compute risk scores and grades from findings (contract 5)."""

from collections import Counter
from collections.abc import Iterable

from harborguard.model import Finding, Grade, Severity, SeverityCounts

# The lowest and the highest score of each grade, both inclusive (contract 5).
_GRADE_BOUNDS = {
    Grade.A: (0, 24),
    Grade.B: (25, 49),
    Grade.C: (50, 74),
    Grade.D: (75, 100),
}


def count_severities(findings: Iterable[Finding]) -> SeverityCounts:
    """Return the number of findings of each counted severity. The findings must be distinct."""
    counts = Counter(finding.severity for finding in findings)
    return SeverityCounts(
        critical=counts[Severity.CRITICAL],
        high=counts[Severity.HIGH],
        medium=counts[Severity.MEDIUM],
        low=counts[Severity.LOW],
    )


def risk_score(counts: SeverityCounts) -> int:
    """Return the risk score, 0..100; higher is worse (contract 5).

    The score is the weighted sum of the counts, divided by four, rounded half up, and limited to
    the range of the worst severity.
    """
    weighted = 25 * counts.critical + 10 * counts.high + 3 * counts.medium + counts.low
    lowest, highest = _score_bounds(counts)
    return min(highest, max(lowest, (weighted + 2) // 4))


def grade(score: int) -> Grade:
    """Return the grade of a risk score. Raise ValueError if the score is not 0..100."""
    for candidate, (lowest, highest) in _GRADE_BOUNDS.items():
        if lowest <= score <= highest:
            return candidate
    raise ValueError(f"a risk score is 0..100, not {score}")


def score_ranges(grades: Iterable[Grade]) -> list[tuple[int, int]]:
    """Return the score ranges of a set of grades, ascending, with inclusive bounds.

    Adjacent ranges are merged, so there are at most two. The list is empty without grades.
    """
    ranges: list[tuple[int, int]] = []
    for lowest, highest in sorted(_GRADE_BOUNDS[each] for each in set(grades)):
        if ranges and ranges[-1][1] + 1 == lowest:
            ranges[-1] = (ranges[-1][0], highest)
        else:
            ranges.append((lowest, highest))
    return ranges


def _score_bounds(counts: SeverityCounts) -> tuple[int, int]:
    if counts.critical:
        return 75, 100
    if counts.high:
        return 25, 74
    return 0, 49
