"""Where a page is best read: every place gives the rows that the whole order has there."""

from hypothesis import assume, given
from hypothesis import strategies as st

from harborguard.listing import Page, Sort, SortKey
from harborguard.store.image_place import Counts, Few, Place, Scores, Stretch, find_place

BY_NAME = Sort(SortKey.NAME, descending=False)
BY_SCORE = Sort(SortKey.RISK_SCORE, descending=True)


def counts(by_score: dict[int | None, int], images: int | None = None) -> Counts:
    """Counters that say so."""
    return Counts(1, images or sum(by_score.values()), list(by_score.items()))


def test_it_works() -> None:
    assert find_place(BY_NAME, Page(1, 50), counts({None: 1000})) == [
        Stretch(50, 0, descending=False)
    ]
    assert find_place(BY_NAME, Page(20, 50), counts({None: 1000})) == [
        Stretch(50, 0, descending=True)
    ]
    assert find_place(BY_SCORE, Page(3, 50), counts({90: 70, 80: 60, None: 100})) == [
        Stretch(30, 30, descending=True, scores=Scores.SCORED, start=80),
        Stretch(20, 0, descending=True, scores=Scores.UNSCORED),
    ]
    assert find_place(BY_NAME, Page(3, 50), counts({None: 100})) == ()


def test_few_are_found_and_sorted() -> None:
    assert find_place(BY_NAME, Page(1, 50), counts({None: 40}, 1_000_000)) == Few(40, 0)
    assert find_place(BY_NAME, Page(2, 50), counts({None: 60}, 1_000_000)) == Few(10, 50)
    assert find_place(BY_NAME, Page(1, 50), counts({None: 50_000}, 1_000_000)) == [
        Stretch(50, 0, descending=False)
    ]


def read(order: list[tuple[int | None, int]], place: Place) -> list[tuple[int | None, int]]:
    """What a database would read there: entries are (score, id)."""
    if isinstance(place, Few):
        return order[place.offset : place.offset + place.limit]
    rows = []
    for stretch in place:
        walked = order
        if stretch.scores is Scores.SCORED:
            walked = [entry for entry in order if entry[0] is not None]
        elif stretch.scores is Scores.UNSCORED:
            walked = [entry for entry in order if entry[0] is None]
        rows.append((stretch, walked))
    found = []
    for stretch, walked in rows:
        is_forward = walked == sorted_like(walked, stretch.descending)
        entries = walked if is_forward else walked[::-1]
        if stretch.start is not None:
            start = stretch.start
            entries = [
                entry
                for entry in entries
                if entry[0] is not None
                and (entry[0] <= start if stretch.descending else entry[0] >= start)
            ]
        found += entries[stretch.offset : stretch.offset + stretch.limit]
    return found


def sorted_like(
    entries: list[tuple[int | None, int]], descending: bool
) -> list[tuple[int | None, int]]:
    """Entries in an index's direction; unscored ones are never mixed with others here."""
    key = lambda entry: (entry[0] if entry[0] is not None else 0, entry[1])  # noqa: E731
    return sorted(entries, key=key, reverse=descending)


@given(
    scores=st.lists(st.none() | st.integers(0, 5), max_size=60),
    size=st.integers(1, 12),
    number=st.integers(1, 20),
    descending=st.booleans(),
    others=st.integers(0, 100_000),
)
def test_a_place_by_score_is_that_part_of_the_order(
    scores: list[int | None], size: int, number: int, descending: bool, others: int
) -> None:
    entries = list(zip(scores, range(len(scores)), strict=True))
    scored = sorted_like([e for e in entries if e[0] is not None], descending)
    order = scored + sorted_like([e for e in entries if e[0] is None], descending)
    by_score = {score: scores.count(score) for score in set(scores)}
    page = Page(number, size)

    place = find_place(
        Sort(SortKey.RISK_SCORE, descending), page, counts(by_score, len(scores) + others)
    )

    assert sorted(map(repr, read(order, place))) == sorted(
        map(repr, order[page.offset : page.offset + size])
    )


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
