"""The query builder turns criteria and a page into SQL and parameters. No database."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harborguard.listing import CountedSeverity, ImageCriteria, Page, ScanAge, Sort, SortKey
from harborguard.model import Grade, Scope
from harborguard.store.images.export import ExportFormat, build_export
from harborguard.store.images.filters import ImageFilters, Parameters, like_pattern
from harborguard.store.images.plan import IndexRange, PagePlan, Partition, SortMatches
from harborguard.store.images.query import ORDERS, ImageQuery, Statement

ACME = Scope("org-acme")
TENANT = "organization_id = %(organization_id)s"
FIRST = Page(1, 20)
TABLES = {
    *{"images", "image_names", "inventories", "image_counts", "registries"},
    *{"tags", "findings", "finding_sets"},
}
DERIVED = {
    "sample",
    "rare_word",
    "matches",
    "few",
    "unnest",
}  # sources that are read from these tables


def conditions(criteria: ImageCriteria, scope: Scope = ACME) -> tuple[str, Parameters]:
    """Return the index conditions of all filters, and their parameters."""
    filters = ImageFilters(scope, criteria)
    return filters.index_conditions, filters.parameters


def every_statement(scope: Scope, criteria: ImageCriteria) -> list[Statement]:
    """Return every kind of statement for the criteria."""
    query = ImageQuery(scope, criteria)
    plans: list[PagePlan] = [
        SortMatches(20, 0),
        [IndexRange(20, 0, descending=True)],
        [IndexRange(20, 0, descending=False)],
        [IndexRange(20, 0, descending=True, partition=Partition.SCORED, start=50)],
        [
            IndexRange(15, 0, descending=False, partition=Partition.SCORED, start=50),
            IndexRange(5, 0, descending=False, partition=Partition.UNSCORED),
        ],
    ]
    planned = [query.page(plan) for plan in plans]
    searches = [query.search(FIRST)] if query.is_search else []
    exports = [build_export(scope, criteria, each) for each in ExportFormat]
    return [
        *[query.early_page(FIRST), query.window(FIRST), query.counts(), query.count()],
        *planned,
        *searches,
        *exports,
    ]


def test_window_of_third_page_has_filter_order_and_slice() -> None:
    text, parameters = ImageQuery(ACME, ImageCriteria(risk_score=7)).window(Page(3, 20))
    assert f"WHERE {TENANT} AND (risk_score >= %(risk_score)s) IS TRUE" in text
    assert text.count("ORDER BY created_at DESC, id DESC") == 3
    assert "LIMIT %(limit)s OFFSET %(offset)s" in text
    assert parameters == {
        "organization_id": "org-acme",
        "risk_score": 7,
        "limit": 20,
        "offset": 40,
        "max_matches": 1060,
    }


def test_is_early_with_filter_score_sort_or_large_offset_is_false() -> None:
    plain = ImageQuery(ACME, ImageCriteria())
    assert plain.is_early(FIRST)
    assert plain.is_early(Page(50, 20))
    assert not plain.is_early(Page(51, 20))
    by_name = ImageCriteria(sort=Sort(SortKey.NAME, descending=False))
    assert ImageQuery(ACME, by_name).is_early(FIRST)
    by_score = ImageCriteria(sort=Sort(SortKey.RISK_SCORE, descending=False))
    assert not ImageQuery(ACME, by_score).is_early(FIRST)
    assert not ImageQuery(ACME, ImageCriteria(registry="x")).is_early(FIRST)
    assert not ImageQuery(Scope("org-acme", "reg-1"), ImageCriteria()).is_early(FIRST)


def test_index_range_with_filters_wraps_each_in_is_true() -> None:
    """IS TRUE keeps the planner from using a filter as an index condition."""
    query = ImageQuery(ACME, ImageCriteria(registry="x", grades=(Grade.A,)))
    text, _ = query.page([IndexRange(20, 0, descending=True)])
    assert "(risk_score BETWEEN %(low)s AND %(high)s) IS TRUE" in text
    assert text.count("IS TRUE") == 2


def test_page_of_two_index_ranges_has_separate_parameters() -> None:
    by_score = Sort(SortKey.RISK_SCORE, descending=True)
    text, parameters = ImageQuery(ACME, ImageCriteria(sort=by_score)).page(
        [
            IndexRange(15, 3, descending=True, partition=Partition.SCORED, start=4),
            IndexRange(5, 0, descending=True, partition=Partition.UNSCORED),
        ]
    )
    assert text.count("UNION ALL") == 1
    assert parameters == {
        "organization_id": "org-acme",
        "limit": 15,
        "offset": 3,
        "start": 4,
        "unscored_limit": 5,
        "unscored_offset": 0,
    }


@pytest.mark.parametrize(
    ("criteria", "expected", "parameters"),
    [
        (ImageCriteria(), "", {}),
        (ImageCriteria(risk_score=0), "risk_score >= %(risk_score)s", {"risk_score": 0}),
        (
            ImageCriteria(grades=(Grade.A, Grade.B)),
            "risk_score BETWEEN %(low)s AND %(high)s",
            {"low": 0, "high": 49},
        ),
        (
            ImageCriteria(grades=(Grade.A, Grade.C)),
            "(risk_score BETWEEN %(low)s AND %(high)s"
            " OR risk_score BETWEEN %(low_2)s AND %(high_2)s)",
            {"low": 0, "high": 24, "low_2": 50, "high_2": 74},
        ),
        (ImageCriteria(search="a%"), "name LIKE %(search)s", {"search": "%a\\%%"}),
    ],
)
def test_filters_of_criteria_become_conditions(
    criteria: ImageCriteria, expected: str, parameters: Parameters
) -> None:
    text, actual_parameters = conditions(criteria)
    assert text == (f"{TENANT} AND {expected}" if expected else TENANT)
    assert actual_parameters == {"organization_id": "org-acme", **parameters}


def test_scope_bound_to_registry_becomes_condition() -> None:
    text, parameters = conditions(ImageCriteria(), Scope("org-acme", "reg-1"))
    assert text == f"{TENANT} AND registry_id = %(scope_registry_id)s"
    assert parameters == {"organization_id": "org-acme", "scope_registry_id": "reg-1"}


any_criteria = st.builds(
    ImageCriteria,
    registry=st.none() | st.text(),
    risk_score=st.none() | st.integers(0, 100),
    grades=st.lists(st.sampled_from(Grade), unique=True).map(tuple),
    search=st.none() | st.text(),
    cve_id=st.none() | st.text(),
    package=st.none() | st.text(),
    is_fixable=st.none() | st.booleans(),
    severities=st.lists(st.sampled_from(CountedSeverity), unique=True).map(tuple),
    tag=st.none() | st.text(),
    scanned=st.none() | st.sampled_from(ScanAge),
    stale_days=st.none() | st.integers(1, 3650),
    created_after=st.none() | st.datetimes(),
    scanned_after=st.none() | st.datetimes(),
    scanned_before=st.none() | st.datetimes(),
    sort=st.none() | st.builds(Sort, st.sampled_from(SortKey), st.booleans()),
)


@given(any_criteria, st.none() | st.text(min_size=1))
def test_every_statement_has_the_tenant_as_first_condition(
    criteria: ImageCriteria, registry_id: str | None
) -> None:
    for text, parameters in every_statement(Scope("org-acme", registry_id), criteria):
        wheres = re.findall(r"WHERE\s+(.*)", text)
        assert wheres
        for where in wheres:
            assert re.match(r"(\w+\.)?organization_id = %\(organization_id\)s", where)
        sources = re.findall(r"(?:FROM|JOIN) (?!LATERAL)(\w+)", text)
        tables = [source for source in sources if source not in DERIVED]
        assert set(tables) <= TABLES
        # A search and a filter on findings repeat the condition for the rows that they derived.
        derived = text.count(TENANT) - len(tables) - 2 * text.count("AS affected")
        assert derived in ({3, 4} if "sample" in sources else {0})
        assert parameters["organization_id"] == "org-acme"


def texts_of_all_shapes(
    value: str, score: int, one_range: tuple[Grade, ...], two_ranges: tuple[Grade, ...]
) -> set[str]:
    """Return the texts of all statements with each criterion, and the registry, present or not."""
    texts: set[str] = set()
    for registry_id, registry, risk_score, grades, search, sort in product(
        (None, value), (None, value), (None, score), ((), one_range, two_ranges),
        (None, value), ORDERS,
    ):  # fmt: skip
        criteria = ImageCriteria(registry, risk_score, grades, search, sort=sort)
        texts.update(text for text, _ in every_statement(Scope(value, registry_id), criteria))
    return texts


def test_statement_texts_do_not_depend_on_the_values_of_criteria() -> None:
    """Values are parameters. Only which criteria are present, and the sort, change the text."""
    texts = texts_of_all_shapes("a", 0, (Grade.A,), (Grade.A, Grade.C))
    others = texts_of_all_shapes("x' OR 1=1 --%", 99, (Grade.B, Grade.C), (Grade.B, Grade.D))
    assert texts == others


@given(st.text("ab%_\\K\u212aİ ", max_size=8))
def test_like_pattern_of_any_term_escapes_wildcards(term: str) -> None:
    pattern = like_pattern(term)
    assert (pattern[0], pattern[-1]) == ("%", "%")
    inner = pattern[1:-1]
    plain = inner.replace("\\\\", "\0").replace("\\%", "%").replace("\\_", "_").replace("\0", "\\")
    assert plain == "".join(c.lower() if c.isascii() else c for c in term)
    unescaped = inner.replace("\\\\", "").replace("\\%", "").replace("\\_", "")
    assert not set(unescaped) & set("%_\\")
