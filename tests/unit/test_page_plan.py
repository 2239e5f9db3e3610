"""`plan_page` returns plans that read exactly the rows of the page, from the nearer end."""

from collections import Counter

from hypothesis import given
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

# The sort value (None: no value) and an id.
Entry = tuple[int | None, int]


def make_counts(buckets: dict[int | None, int], images: int | None = None) -> Counts:
    """Return counts with these buckets; by default all images match."""
    return Counts(1, images or sum(buckets.values()), list(buckets.items()))


def test_plan_of_page_starts_at_nearest_end_or_bucket() -> None:
    assert plan_page(BY_NAME, Page(1, 50), make_counts({None: 1000})) == [
        IndexRange(50, 0, descending=False)
    ]
    assert plan_page(BY_NAME, Page(20, 50), make_counts({None: 1000})) == [
        IndexRange(50, 0, descending=True)
    ]
    assert plan_page(BY_SCORE, Page(3, 50), make_counts({90: 70, 80: 160, None: 100})) == [
        IndexRange(50, 30, descending=True, partition=Partition.SCORED, start=80)
    ]
    assert plan_page(BY_SCORE, Page(3, 50), make_counts({90: 70, 80: 60, None: 100})) == [
        IndexRange(30, 0, descending=False, partition=Partition.SCORED, start=80),
        IndexRange(20, 0, descending=True, partition=Partition.UNSCORED),
    ]
    assert plan_page(BY_NAME, Page(3, 50), make_counts({None: 100})) == ()


def test_plan_with_few_matches_sorts_them() -> None:
    images = 1_000_000
    assert plan_page(BY_NAME, Page(1, 50), make_counts({None: 40}, images)) == SortMatches(40, 0)
    assert plan_page(BY_NAME, Page(2, 50), make_counts({None: 60}, images)) == SortMatches(10, 50)
    assert plan_page(BY_NAME, Page(1, 50), make_counts({None: 50_000}, images)) == [
        IndexRange(50, 0, descending=False)
    ]


def read_plan(entries: list[Entry], sort: Sort, plan: PagePlan) -> list[Entry]:
    """Return the entries that a database reads by a plan."""
    if isinstance(plan, SortMatches):
        return sort_entries(entries, sort)[plan.offset : plan.offset + plan.limit]
    rows = []
    for index_range in plan:
        is_unscored = index_range.partition in (Partition.UNSCORED, Partition.ALL)
        partition = [e for e in entries if (e[0] is None) is is_unscored]
        scanned = scan_index(partition, index_range.descending)
        if index_range.start is not None:
            while scanned and is_before_start(scanned[0], index_range):
                del scanned[0]
        rows += scanned[index_range.offset : index_range.offset + index_range.limit]
    return rows


def is_before_start(entry: Entry, index_range: IndexRange) -> bool:
    """Return whether an entry comes before the start of an index range."""
    value, start = entry[0], index_range.start
    return value > start if index_range.descending else value < start  # pyright: ignore


def scan_index(entries: list[Entry], descending: bool) -> list[Entry]:
    """Return the entries of one partition in the direction of an index scan."""
    return sorted(entries, key=lambda entry: (entry[0] or 0, entry[1]), reverse=descending)


def sort_entries(entries: list[Entry], sort: Sort) -> list[Entry]:
    """Return all entries in order; those without a value come last in both directions."""
    scored = [entry for entry in entries if entry[0] is not None]
    unscored = [entry for entry in entries if entry[0] is None]
    return scan_index(scored, sort.descending) + scan_index(unscored, sort.descending)


scores = st.lists(st.none() | st.integers(0, 5), max_size=60)


@given(
    values=scores,
    size=st.integers(1, 12),
    number=st.integers(1, 20),
    descending=st.booleans(),
    others=st.integers(0, 100_000),
    empty=st.lists(st.integers(6, 9).map(lambda n: (n, 0))),
)
def test_plan_of_any_page_reads_the_rows_of_the_page(
    values: list[int | None],
    size: int,
    number: int,
    descending: bool,
    others: int,
    empty: list[Bucket],
) -> None:
    """Buckets may be empty: a counter remains, with the value zero, when its last image is gone."""
    sort, page = Sort(SortKey.RISK_SCORE, descending), Page(number, size)
    entries = list(zip(values, range(len(values)), strict=True))
    buckets = [*Counter(values).items(), *empty]

    plan = plan_page(sort, page, Counts(1, len(values) + others, buckets))

    expected = sort_entries(entries, sort)[page.offset : page.offset + size]
    assert sorted(map(repr, read_plan(entries, sort, plan))) == sorted(map(repr, expected))


@given(
    total=st.integers(0, 500),
    size=st.integers(1, 200),
    number=st.integers(1, 60),
    descending=st.booleans(),
)
def test_plan_by_name_reads_the_whole_page_from_the_nearer_end(
    total: int, size: int, number: int, descending: bool
) -> None:
    page = Page(number, size)
    plan = plan_page(Sort(SortKey.NAME, descending), page, make_counts({None: total}))
    rows = max(0, min(size, total - page.offset))
    if not rows:
        assert plan == ()
        return
    assert not isinstance(plan, SortMatches)
    [index_range] = plan
    assert index_range.limit == rows
    assert index_range.offset <= (total - rows) // 2 + 1
    if index_range.descending == descending:
        assert index_range.offset == page.offset
    else:
        assert index_range.offset == total - page.offset - rows
