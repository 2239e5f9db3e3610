"""Build the SQL statements of the list from criteria and a page. This module performs no I/O.

Every statement returns the scope's inventory version, so that the caller can check that two
statements read the same state. The statements:

early_page  For a page with a small offset, without filters, by name or creation time: an index scan
            in the order of the sort. The inventory's image count is the total.
counts      For other pages of queries that the counters can answer: the numbers of matching images,
            by risk score if the sort uses it. `plan.plan_page` then plans how to read the page.
page        The planned page: one or two index scans in the order of the sort, which check filters
            on the index entries, or a sort of few matches.
search      The page and the total of a search by name. The names come from `image_names`, see
            `search.names_query`. Few matches are sorted; for more, the index of the sort is
            scanned. With a filter that `image_names` lacks, it counts matches like `window`.
window      For other filters that the counters cannot answer: the page and a count of matches from
            one index scan. It stops a limited number of rows after the page, because a window
            function stores all rows that it counts. With a filter on findings, it finds all images
            by their findings, sorts and counts them.
count       The total, if the window stopped at its limit, or if a page after the first is empty.

`page`, `search` and `window` find the ids of a page first, and then fetch the other columns of its
rows only. Some sort columns have no index, because every report changes them or few queries use
them: all matches are then read, and the first ones kept.
"""

from typing import LiteralString

from harborguard.listing import ImageCriteria, Page, Sort, SortKey
from harborguard.model import Scope
from harborguard.store.images.columns import IMAGE_COLUMNS, row_by_key
from harborguard.store.images.filters import TENANT, ImageFilters, Parameters
from harborguard.store.images.plan import (
    UNINDEXED,
    IndexRange,
    PagePlan,
    Partition,
    SortMatches,
)
from harborguard.store.images.search import PARAMETERS, name_count, names_query

Statement = tuple[LiteralString, Parameters]

DEFAULT_SORT = Sort(SortKey.CREATED_AT, descending=True)
MAX_COUNTED_AFTER_PAGE = 1000  # rows after the page that a window counts at most
MAX_BIGINT = 2**63 - 1
MAX_EARLY_OFFSET = 1000  # below this, skipping index entries is faster than reading counters

# The only ORDER BY texts. All end in id, in the direction of the sort, so that no page repeats or
# loses a row. Images that were never scanned come last in both directions (contract 1).
ORDERS: dict[Sort, LiteralString] = {
    Sort(SortKey.NAME, descending=False): "name ASC, id ASC",
    Sort(SortKey.NAME, descending=True): "name DESC, id DESC",
    Sort(SortKey.CREATED_AT, descending=False): "created_at ASC, id ASC",
    Sort(SortKey.CREATED_AT, descending=True): "created_at DESC, id DESC",
    Sort(SortKey.RISK_SCORE, descending=False): "risk_score ASC NULLS LAST, id ASC",
    Sort(SortKey.RISK_SCORE, descending=True): "risk_score DESC NULLS LAST, id DESC",
    Sort(SortKey.LAST_SCANNED_AT, descending=False): "last_scanned_at ASC NULLS LAST, id ASC",
    Sort(SortKey.LAST_SCANNED_AT, descending=True): "last_scanned_at DESC NULLS LAST, id DESC",
    Sort(SortKey.TAG_COUNT, descending=False): "tag_count ASC, id ASC",
    Sort(SortKey.TAG_COUNT, descending=True): "tag_count DESC, id DESC",
}


class ImageQuery:
    """The statements of one list query; the tenant is the first condition of all."""

    def __init__(self, scope: Scope, criteria: ImageCriteria) -> None:
        self.sort = criteria.sort or DEFAULT_SORT
        self._filters = ImageFilters(scope, criteria)
        is_limited = scope.registry_id is not None
        self._version: LiteralString = _REGISTRY_VERSION if is_limited else "inventory.version"
        self._order: LiteralString = ORDERS[self.sort]
        self._keys: LiteralString = _KEYS + _UNINDEXED_KEYS.get(self.sort.key, "")

    @property
    def uses_counters(self) -> bool:
        """Return whether the counters have the columns of all conditions."""
        return self._filters.uses_counters

    def is_early(self, page: Page) -> bool:
        """Return whether `early_page` reads this page."""
        has_index = self.sort.key not in UNINDEXED
        return self._is_plain and has_index and page.offset < MAX_EARLY_OFFSET

    def early_page(self, page: Page) -> Statement:
        """Return a page of all images: version, total, columns (null if it is empty)."""
        rows: LiteralString = f"""
    SELECT *
    FROM images
    WHERE {TENANT}
    ORDER BY {self._order}
    LIMIT %(limit)s OFFSET %(offset)s"""
        return self._with_version(rows, "inventory.image_count"), self._parameters(
            page.size, page.offset
        )

    def counts(self) -> Statement:
        """Return the numbers of matches: version, all images, score (if sorted by it), number."""
        return (
            f"""
SELECT {self._version}, inventory.image_count, count.score, count.n
FROM inventories AS inventory
LEFT JOIN LATERAL ({self._counters_query}
) AS count ON true
WHERE inventory.organization_id = %(organization_id)s
""",
            self._filters.parameters,
        )

    def page(self, plan: PagePlan) -> Statement:
        """Return the page of a plan: version, null, columns."""
        if isinstance(plan, SortMatches):
            parameters = self._parameters(plan.limit, plan.offset)
            return self._with_version(_with_columns(self._sorted_matches), "NULL"), parameters
        parameters = dict(self._filters.parameters)
        for index_range in plan:
            parameters |= _range_parameters(index_range)
        rows: LiteralString = _UNION.join([self._scan(each) for each in plan])
        return self._with_version(_with_columns(rows), "NULL"), parameters

    def search(self, page: Page) -> Statement:
        """Return a page and its total: version, total, columns.

        The images of few names are fetched and sorted. Otherwise the page is read as by `window`.
        The total is exact if the names have the columns of all conditions; see `window`.
        """
        is_exact = self._filters.uses_names
        few: LiteralString = f"""
            SELECT {self._keys}
            FROM ({_with_columns(_FEW_NAMES, key="name")}
            ) AS images
            WHERE {self._filters.remaining_conditions}"""
        scans = self._ordered_scans("NOT EXISTS (SELECT FROM few)")
        rows = self._page_of([few, *scans], "NULL" if is_exact else "count(*) OVER ()")
        total = name_count(self._filters) if is_exact else "image.total"
        page_rows = self._with_version(_with_columns(rows, "found.*, page.total"), total)
        limit = _end(page) if is_exact else self.max_counted(page)
        return names_query(self._filters) + page_rows, {
            **self._parameters(page.size, page.offset),
            **PARAMETERS,
            "word_patterns": self._filters.word_patterns,
            "max_matches": limit,
        }

    def window(self, page: Page) -> Statement:
        """Return a page and its total: version, total, columns (null if it is empty).

        Counting stops at `max_counted`, so a total of that number or more may not be exact.
        """
        rows = self._page_of(self._ordered_scans(), "count(*) OVER ()")
        parameters = self._parameters(page.size, page.offset)
        return self._with_version(_with_columns(rows, "found.*, page.total"), "image.total"), {
            **parameters,
            "max_matches": self.max_counted(page),
        }

    def max_counted(self, page: Page) -> int:
        """Return the maximum number of matches that `window` counts for a page."""
        if self._filters.has_findings:
            return MAX_BIGINT
        return min(_end(page) + MAX_COUNTED_AFTER_PAGE, MAX_BIGINT)

    def count(self) -> Statement:
        """Return the number of matching images by counting them: version, total."""
        conditions = self._filters.filter_conditions()
        return (
            f"""
SELECT {self._version}, (SELECT count(*) FROM {self._filters.source} WHERE {conditions})
FROM inventories AS inventory
WHERE inventory.organization_id = %(organization_id)s
""",
            self._filters.parameters,
        )

    @property
    def is_search(self) -> bool:
        """Return whether `search` can find the matches."""
        return self._filters.is_search and not self._filters.has_findings

    @property
    def uses_names(self) -> bool:
        """Return whether the names have the columns of all conditions."""
        return self._filters.uses_names

    @property
    def _is_plain(self) -> bool:
        """Return whether all images are listed, in an order that does not use the score."""
        return self._filters.is_empty and self.sort.key is not SortKey.RISK_SCORE

    @property
    def _counters_query(self) -> LiteralString:
        if self._is_plain:
            return " SELECT NULL::smallint AS score, inventory.image_count AS n"
        is_by_score = self.sort.key is SortKey.RISK_SCORE
        score: LiteralString = "risk_score" if is_by_score else "NULL::smallint"
        return f"""
    SELECT {score} AS score, sum(n)::bigint AS n
    FROM image_counts
    WHERE {self._filters.index_conditions}
    GROUP BY 1"""

    def _parameters(self, limit: int, offset: int) -> Parameters:
        return {**self._filters.parameters, "limit": limit, "offset": offset}

    @property
    def _sorted_matches(self) -> LiteralString:
        # OFFSET 0 is an optimization fence: without it, the planner would scan the sort's index.
        return f"""
        SELECT id
        FROM (
            SELECT {self._keys}
            FROM images
            WHERE {self._filters.index_conditions}
            OFFSET 0
        ) AS match
        ORDER BY {self._order}
        LIMIT %(limit)s OFFSET %(offset)s"""

    def _scan(self, index_range: IndexRange) -> LiteralString:
        bounds = _BOUNDS[index_range.partition, index_range.descending]
        where = self._filters.filter_conditions(*bounds)
        order = _INDEX_ORDERS[Sort(self.sort.key, index_range.descending)]
        is_unscored = index_range.partition is Partition.UNSCORED
        limit, offset = _UNSCORED_LIMITS if is_unscored else _LIMITS
        return f"""
        (SELECT id FROM images WHERE {where} ORDER BY {order} LIMIT {limit} OFFSET {offset})"""

    def _ordered_scans(self, *extra: LiteralString) -> list[LiteralString]:
        """Return scans of at most `max_matches` matches in the order of the sort."""
        partitions: list[list[LiteralString]] = [[*extra]]
        order = self._order
        if self.sort.key is SortKey.RISK_SCORE and not self._filters.has_findings:
            partitions = [["risk_score >= 0", *extra], ["risk_score IS NULL", *extra]]
            order = _INDEX_ORDERS[self.sort]
        return [
            f"""
            (SELECT {self._keys}
            FROM {self._filters.source}
            WHERE {self._filters.filter_conditions(*conditions)}
            ORDER BY {order}
            LIMIT %(max_matches)s)"""
            for conditions in partitions
        ]

    def _page_of(self, rows: list[LiteralString], total: LiteralString) -> LiteralString:
        return f"""
        SELECT id, {total} AS total
        FROM ({_UNION.join(rows)}
        ) AS counted
        ORDER BY {self._order}
        LIMIT %(limit)s OFFSET %(offset)s"""

    def _with_version(self, rows: LiteralString, total: LiteralString) -> LiteralString:
        return f"""
SELECT
    {self._version},
    {total} AS total,
    {IMAGE_COLUMNS}
FROM inventories AS inventory
LEFT JOIN LATERAL ({rows}
) AS image ON true
WHERE inventory.organization_id = %(organization_id)s
ORDER BY {self._order}
"""


def _end(page: Page) -> int:
    return min(page.offset + page.size, MAX_BIGINT)


# The version of a scope that is limited to a registry (contract 1.6); 0 if the registry was removed
# after the request was authenticated.
_REGISTRY_VERSION: LiteralString = """coalesce((
        SELECT registry.version
        FROM registries AS registry
        WHERE registry.organization_id = %(organization_id)s
            AND registry.id = %(scope_registry_id)s
    ), 0)"""
# The columns that the orders of matches use. Every index of the list has the first ones.
_KEYS: LiteralString = "id, name, created_at, risk_score"
_UNINDEXED_KEYS: dict[SortKey, LiteralString] = {
    SortKey.LAST_SCANNED_AT: ", last_scanned_at",
    SortKey.TAG_COUNT: ", tag_count",
}
# The orders of the indexes. By risk score, scored and unscored rows are scanned separately.
_INDEX_ORDERS: dict[Sort, LiteralString] = {
    **ORDERS,
    Sort(SortKey.RISK_SCORE, descending=False): "risk_score ASC, id ASC",
    Sort(SortKey.RISK_SCORE, descending=True): "risk_score DESC, id DESC",
}
_BOUNDS: dict[tuple[Partition, bool], list[LiteralString]] = {
    (Partition.ALL, False): [],
    (Partition.ALL, True): [],
    (Partition.SCORED, False): ["risk_score >= %(start)s"],
    (Partition.SCORED, True): ["risk_score <= %(start)s"],
    (Partition.UNSCORED, False): ["risk_score IS NULL"],
    (Partition.UNSCORED, True): ["risk_score IS NULL"],
}
_FEW_NAMES: LiteralString = """
        SELECT name
        FROM few
        CROSS JOIN unnest(few.names) AS name"""
_UNION: LiteralString = "\n        UNION ALL"
_LIMITS: tuple[LiteralString, LiteralString] = ("%(limit)s", "%(offset)s")
_UNSCORED_LIMITS: tuple[LiteralString, LiteralString] = (
    "%(unscored_limit)s",
    "%(unscored_offset)s",
)


def _with_columns(
    rows: LiteralString, columns: LiteralString = "found.*", *, key: LiteralString = "id"
) -> LiteralString:
    return f"""
    SELECT {columns}
    FROM ({rows}
    ) AS page
    CROSS JOIN LATERAL ({row_by_key("images", key, f"page.{key}")}
    ) AS found"""


def _range_parameters(index_range: IndexRange) -> Parameters:
    if index_range.partition is Partition.UNSCORED:
        return {"unscored_limit": index_range.limit, "unscored_offset": index_range.offset}
    parameters: Parameters = {"limit": index_range.limit, "offset": index_range.offset}
    if index_range.start is None:
        return parameters
    return {**parameters, "start": index_range.start}
