"""Where a page is best read: every place gives the rows that the whole order has there."""

from collections import Counter
from datetime import date, timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from harborguard.listing import Page, Sort, SortKey
from harborguard.store.image_place import Counts, Few, Part, Place, Step, Stretch, find_place

BY_NAME = Sort(SortKey.NAME, descending=False)
BY_SCORE = Sort(SortKey.RISK_SCORE, descending=True)
NEWEST = Sort(SortKey.CREATED_AT, descending=True)
MAY = date(2026, 5, 1)

# What the order hangs on, and an id.
Entry = tuple[int | date | None, int]


def counts(steps: dict[int | date | None, int], images: int | None = None) -> Counts:
    """Counters that say so."""
    return Counts(1, images or sum(steps.values()), list(steps.items()))


def test_it_works() -> None:
    assert find_place(BY_NAME, Page(1, 50), counts({None: 1000})) == [
        Stretch(50, 0, descending=False)
    ]
    assert find_place(BY_NAME, Page(20, 50), counts({None: 1000})) == [
        Stretch(50, 0, descending=True)
    ]
    assert find_place(BY_SCORE, Page(3, 50), counts({90: 70, 80: 160, None: 100})) == [
        Stretch(50, 30, descending=True, part=Part.SCORED, start=80)
    ]
    assert find_place(BY_SCORE, Page(3, 50), counts({90: 70, 80: 60, None: 100})) == [
        Stretch(30, 0, descending=False, part=Part.SCORED, start=80),
        Stretch(20, 0, descending=True, part=Part.UNSCORED),
    ]
    assert find_place(BY_NAME, Page(3, 50), counts({None: 100})) == ()


def test_a_page_of_a_day_is_read_from_its_nearer_end() -> None:
    days = counts({MAY: 1000, MAY + timedelta(1): 400})
    assert find_place(NEWEST, Page(9, 50), days) == [
        Stretch(50, 0, descending=True, part=Part.BY_DAY, start=MAY)
    ]
    assert find_place(NEWEST, Page(8, 50), days) == [
        Stretch(50, 0, descending=False, part=Part.BY_DAY, start=MAY + timedelta(1))
    ]
    assert find_place(NEWEST, Page(28, 50), days) == [
        Stretch(50, 0, descending=False, part=Part.BY_DAY, start=MAY)
    ]


def test_few_are_found_and_sorted() -> None:
    assert find_place(BY_NAME, Page(1, 50), counts({None: 40}, 1_000_000)) == Few(40, 0)
    assert find_place(BY_NAME, Page(2, 50), counts({None: 60}, 1_000_000)) == Few(10, 50)
    assert find_place(BY_NAME, Page(1, 50), counts({None: 50_000}, 1_000_000)) == [
        Stretch(50, 0, descending=False)
    ]


def read(entries: list[Entry], sort: Sort, place: Place) -> list[Entry]:
    """What a database would read there."""
    if isinstance(place, Few):
        return ordered(entries, sort)[place.offset : place.offset + place.limit]
    found = []
    for stretch in place:
        is_unscored = stretch.part in (Part.UNSCORED, Part.ALL)
        walked = walk([e for e in entries if (e[0] is None) is is_unscored], stretch.descending)
        if stretch.start is not None:
            while walked and is_before(walked[0], stretch):
                del walked[0]
        found += walked[stretch.offset : stretch.offset + stretch.limit]
    return found


def is_before(entry: Entry, stretch: Stretch) -> bool:
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
days = st.lists(st.integers(0, 4).map(lambda n: MAY + timedelta(n)), max_size=60)


@given(
    question=st.tuples(st.just(SortKey.RISK_SCORE), scores)
    | st.tuples(st.just(SortKey.CREATED_AT), days),
    size=st.integers(1, 12),
    number=st.integers(1, 20),
    descending=st.booleans(),
    others=st.integers(0, 100_000),
    spent=st.lists(st.integers(6, 9).map(lambda n: (n, 0))),
)
def test_a_place_is_that_part_of_the_order(
    question: tuple[SortKey, list[int | date | None]],
    size: int,
    number: int,
    descending: bool,
    others: int,
    spent: list[Step],
) -> None:
    """Also beside steps of which nothing is left."""
    key, values = question
    sort, page = Sort(key, descending), Page(number, size)
    entries = list(zip(values, range(len(values)), strict=True))
    steps = [*Counter(values).items(), *(spent if key is SortKey.RISK_SCORE else [])]

    place = find_place(sort, page, Counts(1, len(values) + others, steps))

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
    place = find_place(Sort(SortKey.NAME, descending), page, counts({None: total}))
    wanted = max(0, min(size, total - page.offset))
    if not wanted:
        assert place == ()
        return
    assume(not isinstance(place, Few))
    assert not isinstance(place, Few)
    [stretch] = place
    assert stretch.limit == wanted
    assert stretch.offset <= (total - wanted) // 2 + 1
    if stretch.descending == descending:
        assert stretch.offset == page.offset
    else:
        assert stretch.offset == total - page.offset - wanted


@given(sizes=st.lists(st.integers(1, 90), min_size=1, max_size=9), number=st.integers(1, 30))
def test_a_place_in_a_day_is_near(sizes: list[int], number: int) -> None:
    """No more is walked past than half of what the page lies in: a day, or two."""
    page = Page(number, 20)
    of_days: list[Step] = [(MAY - timedelta(n), size) for n, size in enumerate(sizes)]
    place = find_place(NEWEST, page, Counts(1, sum(sizes), of_days))
    assert not isinstance(place, Few)
    for stretch in place:
        assert stretch.part is Part.BY_DAY
        assert stretch.offset < max(sizes)
