"""The findings behind an image's counts, and their query builder.

Each row of a page begins with the total. A page past the end is one row with the total alone.
"""

from typing import Any, LiteralString

from psycopg import errors as sqlstate

from harborguard.errors import Gone, RateLimited, StatementTimeout
from harborguard.listing import (
    FindingCriteria,
    FindingSort,
    FindingSortKey,
    FindingSummary,
    Listing,
    Page,
)
from harborguard.model import Scope, Severity
from harborguard.store.connection import Connection
from harborguard.store.images.details import get_counted_scan, without_total
from harborguard.store.images.filters import FIXABLE, NOT_FIXABLE, like_pattern
from harborguard.store.statements import STATEMENTS

Parameters = dict[str, str | int | list[str]]

RANK: LiteralString = "array_position(%(severity_order)s::text[], severity)"
_SLOW_SEARCH = (
    "The search took longer than 500 ms. Narrow it: filter by severity or package as well."
)
_DELETED = (
    "The findings of scan {} were deleted when a newer scan superseded it. "
    "Upload its report again to restore them."
)
_ONE_SEARCH = "Another search with this credential is running; try again shortly."
DEFAULT_SORT = FindingSort(FindingSortKey.SEVERITY, descending=True)

# The only ORDER BY texts. `position` is unique in a set of findings and starts at the worst
# finding.
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
    FindingSort(FindingSortKey.EPSS, descending=True): (
        "epss DESC NULLS LAST, rank ASC, position ASC"
    ),
    FindingSort(FindingSortKey.EPSS, descending=False): (
        "epss ASC NULLS LAST, rank DESC, position DESC"
    ),
    FindingSort(FindingSortKey.PACKAGE, descending=True): 'package COLLATE "C" DESC, position DESC',
    FindingSort(FindingSortKey.PACKAGE, descending=False): 'package COLLATE "C" ASC, position ASC',
}


def list_findings(
    conn: Connection,
    scope: Scope,
    image_id: str,
    *,
    criteria: FindingCriteria,
    page: Page,
    caller: str,
) -> Listing[FindingSummary]:
    """Return a page of the findings behind an image's counts; raise NotFound like `get_image`.

    Raise Gone if they were deleted while their scan was superseded (contract 6.9).

    A text search compares each finding with the term, so it has a shorter timeout, and a caller
    (the id of a principal) may run one at a time. Raise StatementTimeout or RateLimited.
    """
    scan_id, set_id = get_counted_scan(conn, scope, image_id)
    if scan_id is None:
        return Listing([], 0)
    if set_id is None:
        raise Gone(_DELETED.format(scan_id))
    query = FindingQuery(scope.organization_id, set_id, criteria)
    if criteria.search is None:
        rows = conn.execute(*query.page(page)).fetchall()
    else:
        rows = run_text_search(conn, query.page(page), caller)
    return Listing([FindingSummary._make(row) for row in without_total(rows)], rows[0][0])


def run_text_search(
    conn: Connection, statement: tuple[LiteralString, Parameters], caller: str
) -> list[tuple[Any, ...]]:
    """Return the rows of a text search, which may take 500 ms, one at a time for a caller."""
    try:
        with conn.transaction():
            begin = conn.execute(STATEMENTS["begin_text_search"], {"caller": caller})
            if begin.fetchall() != [(True,)]:
                raise RateLimited(_ONE_SEARCH, retry_after=1)
            return conn.execute(*statement).fetchall()
    except sqlstate.QueryCanceled:
        raise StatementTimeout(_SLOW_SEARCH) from None


class FindingQuery:
    """The statement over one set of findings; the tenant is the first condition."""

    def __init__(self, organization_id: str, set_id: int, criteria: FindingCriteria) -> None:
        self._conditions: list[LiteralString] = [
            "organization_id = %(organization_id)s",
            "set_id = %(set_id)s",
        ]
        self._parameters: Parameters = {
            "organization_id": organization_id,
            "set_id": set_id,
            "severity_order": [severity.value for severity in Severity],
        }
        self._order: LiteralString = ORDERS[criteria.sort or DEFAULT_SORT]
        if criteria.severities:
            severities = [severity.value for severity in criteria.severities]
            self._where("severity = ANY (%(severities)s)", severities=severities)
        if criteria.package is not None:
            self._where("lower(package) = lower(%(package)s)", package=criteria.package)
        if criteria.is_fixable is not None:
            self._where(FIXABLE if criteria.is_fixable else NOT_FIXABLE)
        if criteria.search is not None:
            # CASE compares the texts last. PostgreSQL's estimate of a comparison is low, so it
            # would compare them before it filters.
            filters = " AND ".join(self._conditions)
            contains: LiteralString = f"CASE WHEN {filters} THEN {CONTAINS_TERM} END"
            self._where(contains, search=like_pattern(criteria.search))

    def page(self, page: Page) -> tuple[LiteralString, Parameters]:
        """Return the statement of a page: the total and a finding's columns."""
        return (
            f"""
WITH match AS (
    SELECT *, {RANK} AS rank
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
    epss,
    kev,
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


CONTAINS_TERM: LiteralString = """(
        vulnerability_id ILIKE %(search)s
        OR package ILIKE %(search)s
        OR title ILIKE %(search)s
    )"""
