"""The query builder of the list: criteria and page become one statement and its parameters.

Pure: no connection, no text of a caller's. The page is found and counted in a narrow subquery that
a covering index answers alone; the wide columns of its few rows are joined after. The window counts
what matches before LIMIT cuts, so page and total are of one moment. It says nothing on an empty
page: for that there is `count`, made from the same conditions.
"""

from collections.abc import Iterable
from typing import LiteralString

from harborguard.listing import ImageCriteria, Page, Sort, SortKey
from harborguard.model import Grade, Scope
from harborguard.risk import score_ranges

Parameters = dict[str, str | int]
Statement = tuple[LiteralString, Parameters]

DEFAULT_SORT = Sort(SortKey.CREATED_AT, descending=True)

# The only order texts there are. All end in id, in the direction of the sort, so that no page
# repeats or loses a row; what was never scanned comes last in both directions.
ORDERS: dict[Sort, LiteralString] = {
    Sort(SortKey.NAME, descending=False): "name ASC, id ASC",
    Sort(SortKey.NAME, descending=True): "name DESC, id DESC",
    Sort(SortKey.CREATED_AT, descending=False): "created_at ASC, id ASC",
    Sort(SortKey.CREATED_AT, descending=True): "created_at DESC, id DESC",
    Sort(SortKey.RISK_SCORE, descending=False): "risk_score ASC NULLS LAST, id ASC",
    Sort(SortKey.RISK_SCORE, descending=True): "risk_score DESC NULLS LAST, id DESC",
}


class ImageQuery:
    """What is asked of the images of one scope; the tenant is the first condition of all."""

    def __init__(self, scope: Scope, criteria: ImageCriteria) -> None:
        self._conditions: list[LiteralString] = ["organization_id = %(organization_id)s"]
        self._parameters: Parameters = {"organization_id": scope.organization_id}
        self._order: LiteralString = ORDERS[criteria.sort or DEFAULT_SORT]
        if scope.registry_id is not None:
            self._where("registry_id = %(scope_registry_id)s", scope_registry_id=scope.registry_id)
        if criteria.registry is not None:
            self._where(_IN_REGISTRY, registry=criteria.registry)
        if criteria.risk_score is not None:
            self._where("risk_score >= %(risk_score)s", risk_score=criteria.risk_score)
        if criteria.grades:
            self._where_grades(criteria.grades)
        if criteria.search is not None:
            self._where("name LIKE %(search)s", search=like_pattern(criteria.search))

    def page(self, page: Page) -> Statement:
        """The statement for a page: each row a summary's columns and the total."""
        return (
            f"""
SELECT
    image.id,
    image.name,
    image.registry_id,
    image.tag_count,
    image.latest_tag,
    image.latest_digest,
    image.risk_score,
    image.grade,
    image.critical,
    image.high,
    image.medium,
    image.low,
    image.last_scanned_at AT TIME ZONE 'UTC' AS last_scanned_at,
    image.created_at AT TIME ZONE 'UTC' AS created_at,
    page.total
FROM (
    SELECT id, name, created_at, risk_score, count(*) OVER () AS total
    FROM images
    WHERE {self._matches}
    ORDER BY {self._order}
    LIMIT %(limit)s OFFSET %(offset)s
) AS page
JOIN images AS image
    ON image.organization_id = %(organization_id)s AND image.id = page.id
ORDER BY {self._order}
""",
            {**self._parameters, "limit": page.size, "offset": page.offset},
        )

    def count(self) -> Statement:
        """The statement for the total alone, for a page past the end."""
        return f"SELECT count(*) FROM images WHERE {self._matches}", self._parameters

    @property
    def _matches(self) -> LiteralString:
        return " AND ".join(self._conditions)

    def _where(self, condition: LiteralString, **parameters: str | int) -> None:
        self._conditions.append(condition)
        self._parameters.update(parameters)

    def _where_grades(self, grades: Iterable[Grade]) -> None:
        # A grade is a range of scores, and scores are in every index where letters are not.
        bounds = score_ranges(grades)
        if len(bounds) == 1:
            [(low, high)] = bounds
            self._where(_IN_RANGE, low=low, high=high)
        else:
            [(low, high), (low_2, high_2)] = bounds
            self._where(_IN_TWO_RANGES, low=low, high=high, low_2=low_2, high_2=high_2)


_IN_REGISTRY: LiteralString = """registry_id = ANY (ARRAY(
        SELECT registry.id
        FROM registries AS registry
        WHERE registry.organization_id = %(organization_id)s
            AND (
                registry.id = %(registry)s
                OR lower(registry.host) = lower(%(registry)s)
                OR lower(registry.name) = lower(%(registry)s)
            )
    ))"""
_IN_RANGE: LiteralString = "risk_score BETWEEN %(low)s AND %(high)s"
_IN_TWO_RANGES: LiteralString = f"({_IN_RANGE} OR risk_score BETWEEN %(low_2)s AND %(high_2)s)"


def like_pattern(term: str) -> str:
    r"""A LIKE pattern that matches names containing the term; `%`, `_` and `\` mean themselves.

    Names are lower-case ASCII, so the term's ASCII letters are lowered and nothing else is: another
    alphabet's letter that lowers to an ASCII one (the Kelvin sign) must not match.
    """
    lowered = term.encode().lower().decode()
    escaped = lowered.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
