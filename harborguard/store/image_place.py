"""Where a page is best read, once it is known how many images match: arithmetic, no SQL.

An index is walked from the nearer end, or from a score or a day on whose counter tells what lies
before it. Where very few match, they are found and sorted instead of met on the way.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import Enum
from itertools import accumulate
from operator import itemgetter

from harborguard.listing import Page, Sort, SortKey

# Found by an index and sorted, a row costs about as much as ten that are walked past.
_COST_OF_SORTING = 10


class Part(Enum):
    """Which images a stretch runs over: the index of the risk score keeps the unscored apart."""

    ALL = "all"
    BY_DAY = "by day"
    SCORED = "scored"
    UNSCORED = "unscored"


Step = tuple[int | date | None, int]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many images match, in steps, at one version of the inventory.

    `images` is how many the organization has in all. A step is a value that the order hangs on and
    how many have it: a risk score (None: never scanned), a day, or None for all that match.
    """

    version: int
    images: int
    steps: Sequence[Step]

    @property
    def total(self) -> int:
        """How many match."""
        return sum(n for _, n in self.steps)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of an index: skip `offset` entries that match, read `limit`, in one direction.

    `start` is the score or the day to begin with.
    """

    limit: int
    offset: int
    descending: bool
    part: Part = Part.ALL
    start: int | date | None = None


@dataclass(frozen=True, slots=True)
class Few:
    """So few match that they are found and sorted."""

    limit: int
    offset: int


Place = Sequence[Stretch] | Few


def find_place(sort: Sort, page: Page, counts: Counts) -> Place:
    """Where to read a page: one or two stretches, a few rows, or nothing past the end."""
    wanted = range(page.offset, min(page.offset + page.size, counts.total))
    if not wanted:
        return ()
    stretches = list(_find_stretches(sort, wanted, counts.steps))
    passed = sum(stretch.offset + stretch.limit for stretch in stretches)
    if passed * counts.images > _COST_OF_SORTING * counts.total * counts.total:
        return Few(len(wanted), page.offset)
    return stretches


def _find_stretches(sort: Sort, wanted: range, steps: Sequence[Step]) -> Iterator[Stretch]:
    """Each part's share of the wanted entries; what has no value of its own follows the rest."""
    is_by_score = sort.key is SortKey.RISK_SCORE
    stepped = [step for step in steps if step[0] is not None]
    stepped.sort(key=itemgetter(0), reverse=sort.descending)
    rest = [step for step in steps if step[0] is None]
    begin = 0
    for part, own in (
        (Part.SCORED if is_by_score else Part.BY_DAY, stepped),
        (Part.UNSCORED if is_by_score else Part.ALL, rest),
    ):
        size = sum(n for _, n in own)
        share = range(max(wanted.start - begin, 0), min(wanted.stop - begin, size))
        if share:
            yield _from_nearest_step(part, own, share, descending=sort.descending)
        begin += size


def _from_nearest_step(
    part: Part, steps: Sequence[Step], wanted: range, *, descending: bool
) -> Stretch:
    """Onward from where the first one's step begins, or back from where the last one's ends."""
    ends = list(accumulate(n for _, n in steps))
    first, last = bisect_right(ends, wanted[0]), bisect_right(ends, wanted[-1])
    before = wanted.start - (ends[first] - steps[first][1])
    behind = ends[last] - wanted.stop
    if behind < before:
        return Stretch(len(wanted), behind, not descending, part, steps[last][0])
    return Stretch(len(wanted), before, descending, part, steps[first][0])
