"""The query builders of the findings of a scan and of the image summary. No database."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from harborguard.listing import (
    FindingCriteria,
    FindingSort,
    FindingSortKey,
    ImageCriteria,
    Page,
)
from harborguard.model import Grade, Scope, Severity
from harborguard.store.images.filters import ImageFilters
from harborguard.store.images.findings import ORDERS, FindingQuery
from harborguard.store.images.summary import make_summary_query

any_criteria = st.builds(
    FindingCriteria,
    severities=st.lists(st.sampled_from(Severity), unique=True).map(tuple),
    package=st.none() | st.text(),
    is_fixable=st.none() | st.booleans(),
    search=st.none() | st.text(),
    sort=st.none() | st.builds(FindingSort, st.sampled_from(FindingSortKey), st.booleans()),
)


def test_findings_page_has_conditions_and_slice() -> None:
    criteria = FindingCriteria(severities=(Severity.HIGH,), is_fixable=True)
    text, parameters = FindingQuery("org-acme", 7, criteria).page(Page(3, 20))
    assert (
        "WHERE organization_id = %(organization_id)s AND set_id = %(set_id)s"
        " AND severity = ANY (%(severities)s) AND fixed_version IS NOT NULL\n"
    ) in text
    assert parameters == {
        "organization_id": "org-acme",
        "set_id": 7,
        "severities": ["HIGH"],
        "severity_order": [severity.value for severity in Severity],
        "limit": 20,
        "offset": 40,
    }


@given(any_criteria)
def test_findings_page_has_the_tenant_as_first_condition(criteria: FindingCriteria) -> None:
    text, parameters = FindingQuery("org-acme", 7, criteria).page(Page())
    assert text.count("FROM findings") == 1
    _, _, conditions = text.partition("FROM findings\n    WHERE ")
    assert conditions.startswith("organization_id = %(organization_id)s AND set_id = ")
    assert parameters["organization_id"] == "org-acme"


def texts_of_all_shapes(value: str, severities: tuple[Severity, ...], page: Page) -> set[str]:
    """Return the texts of a page with each criterion present or not, in every order."""
    shapes = product(
        ((), severities), (None, value), (None, False, True), (None, value), ORDERS
    )  # fmt: skip
    return {FindingQuery(value, 7, FindingCriteria(*shape)).page(page)[0] for shape in shapes}


def test_findings_page_texts_do_not_depend_on_the_values_of_criteria() -> None:
    """Values are parameters. Only which criteria are present, and the sort, change the text."""
    texts = texts_of_all_shapes("a", (Severity.LOW,), Page())
    others = texts_of_all_shapes("x' OR 1=1 --%", (Severity.HIGH, Severity.INFO), Page(3, 7))
    assert texts == others
    assert len(texts) == 2 * 2 * 3 * 2 * len(ORDERS)


def test_summary_query_has_the_conditions_of_the_list() -> None:
    criteria = ImageCriteria(grades=(Grade.B,), search="api")
    filters = ImageFilters(Scope("org-acme", "reg-1"), criteria)
    text, parameters = make_summary_query(filters, use_counters=False)
    assert filters.index_conditions.startswith(
        "organization_id = %(organization_id)s AND registry_id = "
    )
    assert f"FROM images WHERE {filters.index_conditions}\n" in text
    assert parameters == {
        **filters.parameters,
        **{"a_low": 0, "a_high": 24, "b_low": 25, "b_high": 49},
        **{"c_low": 50, "c_high": 74, "d_low": 75, "d_high": 100},
    }
