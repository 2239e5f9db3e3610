"""Where a page is best read, once it is known how many images match: arithmetic, no SQL.

An index is walked from the nearer end; by risk score it is entered at the score where the page
starts. Where very few match, they are found and sorted instead of met on the way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from harborguard.listing import Page, Sort, SortKey

# Found by an index and sorted, a row costs about as much as ten that are walked past.
_COST_OF_SORTING = 10


class Scores(Enum):
    """Which images a stretch runs over: the index of the risk score keeps the unscored apart."""

    ALL = "all"
    SCORED = "scored"
    UNSCORED = "unscored"


@dataclass(frozen=True, slots=True)
class Counts:
    """How many images match, by score (None: never scanned), at one version of the inventory.

    `images` is how many the organization has in all. Where the order does not hang on the score,
    all that match are counted under None.
    """

    version: int
    images: int
    by_score: Sequence[tuple[int | None, int]]

    @property
    def total(self) -> int:
        """How many match."""
        return sum(n for _, n in self.by_score)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of an index: skip `offset` entries that match, read `limit`, in one direction.

    `start` is the score to begin at.
    """

    limit: int
    offset: int
    descending: bool
    scores: Scores = Scores.ALL
    start: int | None = None


@dataclass(frozen=True, slots=True)
class Few:
    """So few match that they are found and sorted."""

    limit: int
    offset: int


Place = Sequence[Stretch] | Few


def find_place(sort: Sort, page: Page, counts: Counts) -> Place:
    """Where to read a page: one or two stretches, a few rows, or nothing past the end."""
    limit = min(page.size, counts.total - page.offset)
    if limit <= 0:
        return ()
    stretches = (
        _by_score(sort, page, counts, limit)
        if sort.key is SortKey.RISK_SCORE
        else [_from_nearer_end(Stretch(limit, page.offset, sort.descending), counts.total)]
    )
    passed = sum(stretch.offset + stretch.limit for stretch in stretches)
    if passed * counts.images > _COST_OF_SORTING * counts.total * counts.total:
        return Few(limit, page.offset)
    return stretches


def _from_nearer_end(stretch: Stretch, size: int) -> Stretch:
    """The same entries of a stretch of known size, read from the end that they are nearer to."""
    behind = size - stretch.offset - stretch.limit
    if behind >= stretch.offset:
        return stretch
    return replace(stretch, offset=behind, descending=not stretch.descending)


def _by_score(sort: Sort, page: Page, counts: Counts, limit: int) -> list[Stretch]:
    """Scored images in order from the score where the page starts, then the unscored."""
    scored = sum(n for score, n in counts.by_score if score is not None)
    stretches = []
    if page.offset < scored:
        start, skipped = _starting_score(sort, page.offset, counts)
        within = min(limit, scored - page.offset)
        stretches.append(
            Stretch(within, page.offset - skipped, sort.descending, Scores.SCORED, start)
        )
    if page.offset + limit > scored:
        first = max(page.offset - scored, 0)
        within = page.offset + limit - scored - first
        rest = Stretch(within, first, sort.descending, Scores.UNSCORED)
        stretches.append(_from_nearer_end(rest, counts.total - scored))
    return stretches


def _starting_score(sort: Sort, offset: int, counts: Counts) -> tuple[int, int]:
    """The score that the entry at `offset` has, and how many entries come before that score."""
    scores = sorted(
        ((score, n) for score, n in counts.by_score if score is not None),
        reverse=sort.descending,
    )
    skipped = 0
    for score, n in scores:
        if offset < skipped + n:
            return score, skipped
        skipped += n
    raise ValueError(f"no entry at {offset} of {skipped}")
