"""Where a page is best read: every place gives the rows that the whole order has there."""

from collections import Counter

from hypothesis import assume, given
from hypothesis import strategies as st

from harborguard.listing import Page, Sort, SortKey
from harborguard.store.images.plan import (
    Bucket,
    Counts,
    IndexRange,
    PagePlan,
    Partition,
    SortMatches,
    plan_page,
)

BY_NAME = Sort(SortKey.NAME, descending=False)
BY_SCORE = Sort(SortKey.RISK_SCORE, descending=True)

# What the order hangs on, and an id.
Entry = tuple[int | None, int]


def counts(steps: dict[int | None, int], images: int | None = None) -> Counts:
    """Counters that say so."""
    return Counts(1, images or sum(steps.values()), list(steps.items()))


def test_it_works() -> None:
    assert plan_page(BY_NAME, Page(1, 50), counts({None: 1000})) == [
        IndexRange(50, 0, descending=False)
    ]
    assert plan_page(BY_NAME, Page(20, 50), counts({None: 1000})) == [
        IndexRange(50, 0, descending=True)
    ]
    assert plan_page(BY_SCORE, Page(3, 50), counts({90: 70, 80: 160, None: 100})) == [
        IndexRange(50, 30, descending=True, partition=Partition.SCORED, start=80)
    ]
    assert plan_page(BY_SCORE, Page(3, 50), counts({90: 70, 80: 60, None: 100})) == [
        IndexRange(30, 0, descending=False, partition=Partition.SCORED, start=80),
        IndexRange(20, 0, descending=True, partition=Partition.UNSCORED),
    ]
    assert plan_page(BY_NAME, Page(3, 50), counts({None: 100})) == ()


def test_few_are_found_and_sorted() -> None:
    assert plan_page(BY_NAME, Page(1, 50), counts({None: 40}, 1_000_000)) == SortMatches(40, 0)
    assert plan_page(BY_NAME, Page(2, 50), counts({None: 60}, 1_000_000)) == SortMatches(10, 50)
    assert plan_page(BY_NAME, Page(1, 50), counts({None: 50_000}, 1_000_000)) == [
        IndexRange(50, 0, descending=False)
    ]


def read(entries: list[Entry], sort: Sort, place: PagePlan) -> list[Entry]:
    """What a database would read there."""
    if isinstance(place, SortMatches):
        return ordered(entries, sort)[place.offset : place.offset + place.limit]
    found = []
    for stretch in place:
        is_unscored = stretch.partition in (Partition.UNSCORED, Partition.ALL)
        walked = walk([e for e in entries if (e[0] is None) is is_unscored], stretch.descending)
        if stretch.start is not None:
            while walked and is_before(walked[0], stretch):
                del walked[0]
        found += walked[stretch.offset : stretch.offset + stretch.limit]
    return found


def is_before(entry: Entry, stretch: IndexRange) -> bool:
    """Whether the stretch begins behind an entry."""
    value, start = entry[0], stretch.start
    return value > start if stretch.descending else value < start  # pyright: ignore


def walk(entries: list[Entry], descending: bool) -> list[Entry]:
    """Entries of one part in an index's direction."""
    return sorted(entries, key=lambda entry: (entry[0] or 0, entry[1]), reverse=descending)


def ordered(entries: list[Entry], sort: Sort) -> list[Entry]:
    """The whole order: what has no value comes last in both directions."""
    valued = [entry for entry in entries if entry[0] is not None]
    rest = [entry for entry in entries if entry[0] is None]
    return walk(valued, sort.descending) + walk(rest, sort.descending)


scores = st.lists(st.none() | st.integers(0, 5), max_size=60)


@given(
    values=scores,
    size=st.integers(1, 12),
    number=st.integers(1, 20),
    descending=st.booleans(),
    others=st.integers(0, 100_000),
    spent=st.lists(st.integers(6, 9).map(lambda n: (n, 0))),
)
def test_a_place_is_that_part_of_the_order(
    values: list[int | None],
    size: int,
    number: int,
    descending: bool,
    others: int,
    spent: list[Bucket],
) -> None:
    """Also beside steps of which nothing is left."""
    sort, page = Sort(SortKey.RISK_SCORE, descending), Page(number, size)
    entries = list(zip(values, range(len(values)), strict=True))
    steps = [*Counter(values).items(), *spent]

    place = plan_page(sort, page, Counts(1, len(values) + others, steps))

    wanted = ordered(entries, sort)[page.offset : page.offset + size]
    assert sorted(map(repr, read(entries, sort, place))) == sorted(map(repr, wanted))


@given(
    total=st.integers(0, 500),
    size=st.integers(1, 200),
    number=st.integers(1, 60),
    descending=st.booleans(),
)
def test_a_place_by_name_is_near_and_whole(
    total: int, size: int, number: int, descending: bool
) -> None:
    page = Page(number, size)
    place = plan_page(Sort(SortKey.NAME, descending), page, counts({None: total}))
    wanted = max(0, min(size, total - page.offset))
    if not wanted:
        assert place == ()
        return
    assume(not isinstance(place, SortMatches))
    assert not isinstance(place, SortMatches)
    [stretch] = place
    assert stretch.limit == wanted
    assert stretch.offset <= (total - wanted) // 2 + 1
    if stretch.descending == descending:
        assert stretch.offset == page.offset
    else:
        assert stretch.offset == total - page.offset - wanted
