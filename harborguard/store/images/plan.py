"""Plan how to read a page of a list, from the counters. This module contains no SQL.

An index scan starts at the nearer end of the order. By risk score, it can also start at a score,
because the counters contain the number of rows before it. If few rows match, it is faster to find
them with another index and to sort them.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from operator import itemgetter

from harborguard.listing import Page, Sort, SortKey

# Finding one row with another index and sorting it takes about as long as scanning ten entries.
_COST_OF_SORTING = 10
# The sort columns without an index: all matches are read and sorted.
UNINDEXED = frozenset({SortKey.LAST_SCANNED_AT, SortKey.TAG_COUNT})


class Partition(Enum):
    """The rows that an index range covers. Unscored rows sort last in both directions."""

    ALL = "all"
    SCORED = "scored"
    UNSCORED = "unscored"


Bucket = tuple[int | None, int]


@dataclass(frozen=True, slots=True)
class Counts:
    """The matching images at one inventory version.

    `images` is the number of all images of the organization. `buckets` are pairs of a risk score
    and the number of matching images. The score of images that were never scanned is None. If the
    sort is not by score, one bucket with the score None has all matches.
    """

    version: int
    images: int
    buckets: Sequence[Bucket]

    @property
    def total(self) -> int:
        """Return the number of matching images."""
        return sum(n for _, n in self.buckets)


@dataclass(frozen=True, slots=True)
class IndexRange:
    """An index scan in one direction: skip `offset` matching entries, then read `limit`.

    `start` is the risk score at which the scan begins.
    """

    limit: int
    offset: int
    descending: bool
    partition: Partition = Partition.ALL
    start: int | None = None


@dataclass(frozen=True, slots=True)
class SortMatches:
    """Fetch all matching rows and sort them, then skip `offset` and return `limit`."""

    limit: int
    offset: int


PagePlan = Sequence[IndexRange] | SortMatches


def plan_page(sort: Sort, page: Page, counts: Counts) -> PagePlan:
    """Return how to read a page: one or two index ranges, a sort, or nothing past the end."""
    wanted = range(page.offset, min(page.offset + page.size, counts.total))
    if not wanted:
        return ()
    if sort.key in UNINDEXED:
        return SortMatches(len(wanted), page.offset)
    ranges = list(_find_ranges(sort, wanted, counts.buckets))
    scanned_matches = sum(each.offset + each.limit for each in ranges)
    # If matches are spread evenly, a scan reads images / total entries for each match.
    scan_cost = scanned_matches * counts.images / counts.total
    if scan_cost > _COST_OF_SORTING * counts.total:
        return SortMatches(len(wanted), page.offset)
    return ranges


def _find_ranges(sort: Sort, wanted: range, buckets: Sequence[Bucket]) -> Iterator[IndexRange]:
    """Yield each partition's share of the wanted rows; unscored rows sort last."""
    scored = sorted(
        (bucket for bucket in buckets if bucket[0] is not None),
        key=itemgetter(0),
        reverse=sort.descending,
    )
    # If the sort is by score, the rest are the unscored rows. Otherwise they are all rows.
    rest = [bucket for bucket in buckets if bucket[0] is None]
    by_score = sort.key is SortKey.RISK_SCORE
    rest_partition = Partition.UNSCORED if by_score else Partition.ALL
    begin = 0
    for partition, partition_buckets in (
        (Partition.SCORED, scored),
        (rest_partition, rest),
    ):
        size = sum(n for _, n in partition_buckets)
        share = range(max(wanted.start - begin, 0), min(wanted.stop - begin, size))
        if share:
            yield _from_nearest_bucket(
                partition, partition_buckets, share, descending=sort.descending
            )
        begin += size


def _from_nearest_bucket(
    partition: Partition, buckets: Sequence[Bucket], wanted: range, *, descending: bool
) -> IndexRange:
    """Scan forward from the first row's bucket, or backward from the last row's bucket."""
    ends = list(accumulate(n for _, n in buckets))
    first, last = bisect_right(ends, wanted[0]), bisect_right(ends, wanted[-1])
    before = wanted.start - (ends[first] - buckets[first][1])
    after = ends[last] - wanted.stop
    if after < before:
        return IndexRange(len(wanted), after, not descending, partition, buckets[last][0])
    return IndexRange(len(wanted), before, descending, partition, buckets[first][0])
