"""Risk scores, grades, and the score ranges of grades (contract 5)."""

from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harborguard.model import Finding, Grade, Severity, SeverityCounts
from harborguard.risk import count_severities, grade, risk_score, score_ranges

COUNT = st.integers(0, 5) | st.integers(0, 10**9)
COUNTS = st.builds(SeverityCounts, critical=COUNT, high=COUNT, medium=COUNT, low=COUNT)


def test_counts_of_the_contract_example_give_score_31_and_grade_b() -> None:
    counts = SeverityCounts(critical=0, high=4, medium=19, low=27)
    assert risk_score(counts) == 31
    assert grade(31) is Grade.B


@pytest.mark.parametrize(
    ("counts", "score", "letter"),
    [
        ((0, 0, 0, 0), 0, "A"),
        ((0, 0, 0, 1), 0, "A"),
        ((0, 0, 0, 2), 1, "A"),
        ((0, 0, 2, 0), 2, "A"),
        ((0, 0, 0, 97), 24, "A"),
        ((0, 0, 0, 98), 25, "B"),
        ((0, 0, 0, 1_000_000), 49, "B"),
        ((0, 0, 1_000_000, 0), 49, "B"),
        ((0, 1, 0, 0), 25, "B"),
        ((0, 10, 0, 0), 25, "B"),
        ((0, 20, 0, 0), 50, "C"),
        ((0, 1_000_000, 0, 0), 74, "C"),
        ((1, 0, 0, 0), 75, "D"),
        ((12, 0, 0, 0), 75, "D"),
        ((13, 0, 0, 0), 81, "D"),
        ((1_000_000, 0, 0, 0), 100, "D"),
    ],
)
def test_worst_severity_limits_the_score(
    counts: tuple[int, int, int, int], score: int, letter: str
) -> None:
    assert score == risk_score(SeverityCounts(*counts))
    assert Grade(letter) is grade(score)


@given(COUNTS)
def test_score_equals_the_formula_of_the_contract(counts: SeverityCounts) -> None:
    lowest, highest = (75, 100) if counts.critical else (25, 74) if counts.high else (0, 49)
    weighted = Decimal(25 * counts.critical + 10 * counts.high + 3 * counts.medium + counts.low)
    rounded = int((weighted / 4).quantize(Decimal(1), ROUND_HALF_UP))
    expected = min(highest, max(lowest, rounded))
    assert expected == risk_score(counts)


@given(COUNTS, st.sampled_from(["critical", "high", "medium", "low"]))
def test_additional_finding_never_lowers_the_score(counts: SeverityCounts, severity: str) -> None:
    more = replace(counts, **{severity: getattr(counts, severity) + 1})
    assert risk_score(counts) <= risk_score(more)


def test_severities_below_low_are_not_counted() -> None:
    findings = [Finding("CVE-1", "a", "1", severity) for severity in Severity]
    assert SeverityCounts(1, 1, 1, 1) == count_severities([*findings, *findings[4:]])


@pytest.mark.parametrize("score", [-1, 101])
def test_grade_of_score_out_of_range_raises(score: int) -> None:
    with pytest.raises(ValueError, match=f"0..100, not {score}"):
        grade(score)


@pytest.mark.parametrize(
    ("letters", "ranges"),
    [
        ("", []),
        ("A", [(0, 24)]),
        ("D", [(75, 100)]),
        ("AB", [(0, 49)]),
        ("BA", [(0, 49)]),
        ("BB", [(25, 49)]),
        ("AC", [(0, 24), (50, 74)]),
        ("AD", [(0, 24), (75, 100)]),
        ("BCA", [(0, 74)]),
        ("ABD", [(0, 49), (75, 100)]),
        ("ABCD", [(0, 100)]),
    ],
)
def test_adjacent_grades_are_merged_into_one_range(
    letters: str, ranges: list[tuple[int, int]]
) -> None:
    assert ranges == score_ranges(map(Grade, letters))


def test_ranges_contain_exactly_the_scores_of_their_grades() -> None:
    for size in range(5):
        for letters in combinations(Grade, size):
            ranges = score_ranges(letters)
            assert len(ranges) <= 2
            for score in range(101):
                is_within = any(lowest <= score <= highest for lowest, highest in ranges)
                assert is_within == (grade(score) in letters)
