"""The query builder: criteria -> conditions and parameters, without a database."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harborguard.listing import ImageCriteria, Page, Sort, SortKey
from harborguard.model import Grade, Scope
from harborguard.store.image_query import ORDERS, ImageQuery, like_pattern

ACME = Scope("org-acme")
TENANT = "organization_id = %(organization_id)s"


def conditions(criteria: ImageCriteria, scope: Scope = ACME) -> tuple[str, dict[str, str | int]]:
    """What the count's WHERE says."""
    text, parameters = ImageQuery(scope, criteria).count()
    return text.removeprefix("SELECT count(*) FROM images WHERE "), parameters


def test_it_works() -> None:
    text, parameters = ImageQuery(ACME, ImageCriteria(risk_score=7)).page(Page(3, 20))
    assert f"WHERE {TENANT} AND risk_score >= %(risk_score)s" in text
    assert text.count("ORDER BY created_at DESC, id DESC") == 2
    assert "LIMIT %(limit)s OFFSET %(offset)s" in text
    assert parameters == {
        "organization_id": "org-acme",
        "risk_score": 7,
        "limit": 20,
        "offset": 40,
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
def test_conditions(
    criteria: ImageCriteria, expected: str, parameters: dict[str, str | int]
) -> None:
    text, given_parameters = conditions(criteria)
    assert text == (f"{TENANT} AND {expected}" if expected else TENANT)
    assert given_parameters == {"organization_id": "org-acme", **parameters}


def test_a_bound_scope_is_a_condition() -> None:
    text, parameters = conditions(ImageCriteria(), Scope("org-acme", "reg-1"))
    assert text == f"{TENANT} AND registry_id = %(scope_registry_id)s"
    assert parameters == {"organization_id": "org-acme", "scope_registry_id": "reg-1"}


any_criteria = st.builds(
    ImageCriteria,
    registry=st.none() | st.text(),
    risk_score=st.none() | st.integers(0, 100),
    grades=st.lists(st.sampled_from(Grade), unique=True).map(tuple),
    search=st.none() | st.text(),
    sort=st.none() | st.builds(Sort, st.sampled_from(SortKey), st.booleans()),
)


@given(any_criteria, st.none() | st.text(min_size=1))
def test_the_tenant_is_the_first_condition_of_every_statement(
    criteria: ImageCriteria, registry_id: str | None
) -> None:
    query = ImageQuery(Scope("org-acme", registry_id), criteria)
    for text, parameters in (query.page(Page()), query.count()):
        assert text.count("WHERE") >= 1
        assert text.partition("FROM images\n    WHERE " if "LIMIT" in text else "WHERE ")[
            2
        ].startswith(TENANT)
        assert parameters["organization_id"] == "org-acme"


def test_no_text_of_a_caller_becomes_sql() -> None:
    texts = set()

    @given(any_criteria)
    def collect(criteria: ImageCriteria) -> None:
        texts.add(ImageQuery(ACME, criteria).page(Page())[0])

    collect()
    # registry, risk score, search: asked or not; grades: not, one range or two; six orders.
    assert len(texts) <= 2 * 2 * 2 * 3 * len(ORDERS)


@given(st.text("ab%_\\K\u212aİ ", max_size=8))
def test_like_pattern_escapes_what_like_would_read(term: str) -> None:
    pattern = like_pattern(term)
    assert (pattern[0], pattern[-1]) == ("%", "%")
    inner = pattern[1:-1]
    plain = inner.replace("\\\\", "\0").replace("\\%", "%").replace("\\_", "_").replace("\0", "\\")
    assert plain == "".join(c.lower() if c.isascii() else c for c in term)
    unescaped = inner.replace("\\\\", "").replace("\\%", "").replace("\\_", "")
    assert not set(unescaped) & set("%_\\")
