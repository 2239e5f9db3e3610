"""The findings that the counts of a scope's images include, and their query builder.

They are found by the image, the vulnerability or the package. Each row of a page begins with the
total. A page past the end is one row with the total alone.
"""

from collections.abc import Sequence
from typing import LiteralString

from harborguard.listing import (
    Listing,
    Page,
    VulnerabilityCriteria,
    VulnerabilitySort,
    VulnerabilitySortKey,
    VulnerabilitySummary,
)
from harborguard.model import Scope, Severity
from harborguard.store.connection import Connection
from harborguard.store.images.columns import iso_time, row_by_key
from harborguard.store.images.details import without_total
from harborguard.store.images.filters import (
    FIXABLE,
    HAS_CVE_ID,
    IMAGE_OF_SET,
    NOT_FIXABLE,
    OF_PACKAGE,
    TENANT,
    like_pattern,
)
from harborguard.store.images.findings import CONTAINS_TERM, RANK, run_text_search

Parameters = dict[str, str | int | list[str]]

DEFAULT_SORT = VulnerabilitySort(VulnerabilitySortKey.SEVERITY, descending=True)
# The only ORDER BY texts. `set_id` and `position` are unique together.
ORDERS: dict[VulnerabilitySort, LiteralString] = {
    VulnerabilitySort(VulnerabilitySortKey.SEVERITY, descending=True): (
        "rank ASC, cvss_score DESC NULLS LAST, set_id ASC, position ASC"
    ),
    VulnerabilitySort(VulnerabilitySortKey.SEVERITY, descending=False): (
        "rank DESC, cvss_score ASC NULLS LAST, set_id DESC, position DESC"
    ),
    VulnerabilitySort(VulnerabilitySortKey.CVSS, descending=True): (
        "cvss_score DESC NULLS LAST, rank ASC, set_id ASC, position ASC"
    ),
    VulnerabilitySort(VulnerabilitySortKey.CVSS, descending=False): (
        "cvss_score ASC NULLS LAST, rank DESC, set_id DESC, position DESC"
    ),
    VulnerabilitySort(VulnerabilitySortKey.EPSS, descending=True): (
        "epss DESC NULLS LAST, rank ASC, set_id ASC, position ASC"
    ),
    VulnerabilitySort(VulnerabilitySortKey.EPSS, descending=False): (
        "epss ASC NULLS LAST, rank DESC, set_id DESC, position DESC"
    ),
    VulnerabilitySort(VulnerabilitySortKey.CVE_ID, descending=True): (
        'vulnerability_id COLLATE "C" DESC, set_id DESC, position DESC'
    ),
    VulnerabilitySort(VulnerabilitySortKey.CVE_ID, descending=False): (
        'vulnerability_id COLLATE "C" ASC, set_id ASC, position ASC'
    ),
    VulnerabilitySort(VulnerabilitySortKey.DETECTED_AT, descending=True): (
        "finished_at DESC, set_id DESC, position DESC"
    ),
    VulnerabilitySort(VulnerabilitySortKey.DETECTED_AT, descending=False): (
        "finished_at ASC, set_id ASC, position ASC"
    ),
}


def list_vulnerabilities(
    conn: Connection, scope: Scope, criteria: VulnerabilityCriteria, page: Page, *, caller: str
) -> Listing[VulnerabilitySummary]:
    """Return a page of the findings that the counts of the scope's images include.

    A text search is limited like that of `findings.list_findings`.
    """
    statement = VulnerabilityQuery(scope, criteria).page(page)
    if criteria.search is None:
        rows = conn.execute(*statement).fetchall()
    else:
        rows = run_text_search(conn, statement, caller)
    return Listing([VulnerabilitySummary._make(row) for row in without_total(rows)], rows[0][0])


class VulnerabilityQuery:
    """The statement over the counted findings of a scope; the tenant is the first condition."""

    def __init__(self, scope: Scope, criteria: VulnerabilityCriteria) -> None:
        self._by_image = criteria.image is not None
        self._conditions: list[LiteralString] = []
        self._parameters: Parameters = {
            "organization_id": scope.organization_id,
            "severity_order": [severity.value for severity in Severity],
        }
        self._order: LiteralString = ORDERS[criteria.sort or DEFAULT_SORT]
        self._image_condition: LiteralString = ""
        self._sorts_by_time = (
            criteria.sort is not None and criteria.sort.key is VulnerabilitySortKey.DETECTED_AT
        )
        if scope.registry_id is not None:
            self._image_condition = " AND image.registry_id = %(scope_registry_id)s"
            self._parameters["scope_registry_id"] = scope.registry_id
        if criteria.image is not None:
            self._parameters["image"] = criteria.image
        # Without an image, the first of these conditions is the index condition.
        if criteria.cve_id is not None:
            self._where(HAS_CVE_ID, cve_id=criteria.cve_id)
        if criteria.package is not None:
            self._where(OF_PACKAGE, package=criteria.package)
        if criteria.severities:
            severities = [severity.value for severity in criteria.severities]
            self._where("severity = ANY (%(severities)s)", severities=severities)
        if criteria.is_fixable is not None:
            self._where(FIXABLE if criteria.is_fixable else NOT_FIXABLE)
        if criteria.is_kev is not None:
            self._where("kev" if criteria.is_kev else "NOT kev")
        if criteria.search is not None:
            # As in `findings.FindingQuery`, the texts are compared last.
            filters = " AND ".join(self._conditions) or "true"
            contains: LiteralString = f"CASE WHEN {filters} THEN {CONTAINS_TERM} END"
            self._where(contains, search=like_pattern(criteria.search))

    def page(self, page: Page) -> tuple[LiteralString, Parameters]:
        """Return the statement of a page: the total and a row's columns.

        `match` has the sort columns and keys only. The others are fetched for the page. LIMIT and
        OFFSET prevent PostgreSQL from merging a subquery into its parent, so that plans made for
        small tables use its index.
        """
        return (
            f"""
WITH match AS (
    SELECT
        affected.*,
        image.id AS image_id,
        image.name AS image_name,
        image.scan_id{", scan.finished_at" if self._sorts_by_time else ""}
    FROM {self._findings}{self._scans}
    WHERE image.{TENANT} AND image.set_id = affected.set_id{self._image_condition}
),
page AS (
    SELECT *
    FROM match
    ORDER BY {self._order}
    LIMIT %(limit)s OFFSET %(offset)s
)
SELECT
    counted.total,
    'vuln-' || left(encode(sha256(convert_to(
        page.image_id || '/' || page.set_id || '/' || page.position, 'UTF8'
    )), 'hex'), 16),
    finding.vulnerability_id,
    finding.severity,
    finding.cvss_score,
    finding.kev,
    finding.epss,
    finding.package,
    finding.installed_version,
    finding.fixed_version,
    finding.title,
    finding.url,
    finding.sources,
    page.image_id,
    page.image_name,
    scan.tag,
    page.scan_id,
    {iso_time("scan.finished_at")}
FROM (SELECT count(*) AS total FROM match) AS counted
LEFT JOIN page ON true
LEFT JOIN LATERAL (
    SELECT *
    FROM findings
    WHERE {TENANT} AND set_id = page.set_id AND position = page.position
    LIMIT 1
) AS finding ON true
LEFT JOIN LATERAL ({row_by_key("scans", "id", "page.scan_id")}
) AS scan ON true
ORDER BY {self._page_order}
""",
            {**self._parameters, "limit": page.size, "offset": page.offset},
        )

    @property
    def _page_order(self) -> LiteralString:
        """Return the order with the columns of `page`, because other tables have them too."""
        return ", ".join([f"page.{column}" for column in self._order.split(", ")])

    @property
    def _findings(self) -> LiteralString:
        """Return the joined items of FROM: `affected`, a finding, and `image`, its image."""
        if self._by_image:
            return f"""({_IMAGE}
    ) AS image
    CROSS JOIN LATERAL (
        SELECT {_KEYS}
        FROM findings
        WHERE {TENANT} AND set_id = image.set_id{_as_filters(self._conditions)}
        OFFSET 0
    ) AS affected"""
        first, *others = self._conditions
        return f"""(
        SELECT {_KEYS}
        FROM findings
        WHERE {TENANT} COLLATE "POSIX" AND {first}{_as_filters(others)}
    ) AS affected{IMAGE_OF_SET}"""

    @property
    def _scans(self) -> LiteralString:
        """Return the join with each match's scan if the sort is by its time, else nothing."""
        return (
            f"""
    CROSS JOIN LATERAL ({row_by_key("scans", "id", "image.scan_id")}
    ) AS scan"""
            if self._sorts_by_time
            else ""
        )

    def _where(self, condition: LiteralString, **parameters: str | list[str]) -> None:
        self._conditions.append(condition)
        self._parameters.update(parameters)


def _as_filters(conditions: Sequence[LiteralString]) -> LiteralString:
    return "".join([f" AND ({condition}) IS TRUE" for condition in conditions])


_KEYS: LiteralString = f"""set_id,
            position,
            vulnerability_id,
            cvss_score,
            epss,
            {RANK} AS rank"""
_IMAGE: LiteralString = f"""
        SELECT by_id.*
        FROM ({row_by_key("images", "id", "%(image)s")}
        ) AS by_id
        UNION ALL
        SELECT by_name.*
        FROM ({row_by_key("images", "name", "lower(%(image)s)")}
        ) AS by_name"""
