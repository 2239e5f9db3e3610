"""The query builder of a scan's findings: criteria and page become one statement; pure.

Each row comes with how many match, and a page past the end is one row with that number alone.
"""

from typing import LiteralString

from harborguard.listing import FindingCriteria, FindingSort, FindingSortKey, Page
from harborguard.store.image_filters import like_pattern

Parameters = dict[str, str | int | list[str]]

_RANK: LiteralString = """array_position(
        ARRAY['critical', 'high', 'medium', 'low', 'negligible', 'info', 'unknown'], severity
    )"""
DEFAULT_SORT = FindingSort(FindingSortKey.SEVERITY, descending=True)

# The only order texts there are; `position` is unique in a scan, and counts from the worst.
ORDERS: dict[FindingSort, LiteralString] = {
    FindingSort(FindingSortKey.SEVERITY, descending=True): (
        "rank ASC, cvss_score DESC NULLS LAST, position ASC"
    ),
    FindingSort(FindingSortKey.SEVERITY, descending=False): (
        "rank DESC, cvss_score ASC NULLS LAST, position DESC"
    ),
    FindingSort(FindingSortKey.CVSS, descending=True): (
        "cvss_score DESC NULLS LAST, rank ASC, position ASC"
    ),
    FindingSort(FindingSortKey.CVSS, descending=False): (
        "cvss_score ASC NULLS LAST, rank DESC, position DESC"
    ),
    FindingSort(FindingSortKey.PACKAGE, descending=True): 'package COLLATE "C" DESC, position DESC',
    FindingSort(FindingSortKey.PACKAGE, descending=False): 'package COLLATE "C" ASC, position ASC',
}


class FindingQuery:
    """What is asked of one scan's findings; the tenant is the first condition of all."""

    def __init__(self, organization_id: str, scan_id: str, criteria: FindingCriteria) -> None:
        self._conditions: list[LiteralString] = [
            "organization_id = %(organization_id)s",
            "scan_id = %(scan_id)s",
        ]
        self._parameters: Parameters = {"organization_id": organization_id, "scan_id": scan_id}
        self._order: LiteralString = ORDERS[criteria.sort or DEFAULT_SORT]
        if criteria.severities:
            severities = [severity.value for severity in criteria.severities]
            self._where("severity = ANY (%(severities)s)", severities=severities)
        if criteria.package is not None:
            self._where("lower(package) = lower(%(package)s)", package=criteria.package)
        if criteria.is_fixable is not None:
            self._where(_FIXABLE if criteria.is_fixable else _NOT_FIXABLE)
        if criteria.search is not None:
            self._where(_FOUND, search=like_pattern(criteria.search))

    def page(self, page: Page) -> tuple[LiteralString, Parameters]:
        """The statement for a page: each row the total and a finding's columns."""
        return (
            f"""
WITH match AS (
    SELECT *, {_RANK} AS rank
    FROM findings
    WHERE {" AND ".join(self._conditions)}
),
page AS (
    SELECT *
    FROM match
    ORDER BY {self._order}
    LIMIT %(limit)s OFFSET %(offset)s
)
SELECT
    counted.total,
    vulnerability_id,
    severity,
    cvss_score,
    package,
    installed_version,
    fixed_version,
    title,
    url,
    sources
FROM (SELECT count(*) AS total FROM match) AS counted
LEFT JOIN page ON true
ORDER BY {self._order}
""",
            {**self._parameters, "limit": page.size, "offset": page.offset},
        )

    def _where(self, condition: LiteralString, **parameters: str | list[str]) -> None:
        self._conditions.append(condition)
        self._parameters.update(parameters)


_FIXABLE: LiteralString = "fixed_version IS NOT NULL"
_NOT_FIXABLE: LiteralString = "fixed_version IS NULL"
_FOUND: LiteralString = """(
        vulnerability_id ILIKE %(search)s
        OR package ILIKE %(search)s
        OR title ILIKE %(search)s
    )"""
