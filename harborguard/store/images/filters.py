"""Conditions on image rows: the tenant's, and one for each filter of the list.

The statements of the list and of the summary use them. This module performs no I/O.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import LiteralString

from harborguard.listing import CountedSeverity, ImageCriteria, ScanAge
from harborguard.model import Scope
from harborguard.risk import score_ranges
from harborguard.store.images.columns import row_by_key

Parameters = dict[str, str | int | list[str] | datetime]

TENANT: LiteralString = "organization_id = %(organization_id)s"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on a row of `images`, with the values of its parameters.

    `in_counters`: `image_counts` has every column that the condition reads. `in_names`:
    `image_names` has them. A condition with `in_names` and without `in_counters` is on the name, so
    it can use the trigram index. Without both, the matching rows of `images` are counted.
    `in_findings`: it is a condition on a row of `findings` instead, the finding that an image must
    have.
    """

    sql: LiteralString
    parameters: Parameters = field(default_factory=dict)
    in_counters: bool = True
    in_names: bool = False
    in_findings: bool = False


def _registry(criteria: ImageCriteria) -> Condition | None:
    if criteria.registry is None:
        return None
    return Condition(_IN_REGISTRY, {"registry": criteria.registry}, in_names=True)


def _risk_score(criteria: ImageCriteria) -> Condition | None:
    if criteria.risk_score is None:
        return None
    return Condition("risk_score >= %(risk_score)s", {"risk_score": criteria.risk_score})


def _grades(criteria: ImageCriteria) -> Condition | None:
    # A grade is a range of scores. The indexes of the list contain the score, but not the grade.
    match score_ranges(criteria.grades):
        case []:
            return None
        case [(low, high)]:
            return Condition(_IN_RANGE, {"low": low, "high": high})
        case [(low, high), (low_2, high_2), *_]:
            return Condition(
                _IN_TWO_RANGES, {"low": low, "high": high, "low_2": low_2, "high_2": high_2}
            )


def _search(criteria: ImageCriteria) -> Condition | None:
    if criteria.search is None:
        return None
    parameters: Parameters = {"search": like_pattern(criteria.search)}
    return Condition("name LIKE %(search)s", parameters, in_counters=False, in_names=True)


def _cve_id(criteria: ImageCriteria) -> Condition | None:
    if criteria.cve_id is None:
        return None
    return Condition(HAS_CVE_ID, {"cve_id": criteria.cve_id}, in_counters=False, in_findings=True)


def _package(criteria: ImageCriteria) -> Condition | None:
    if criteria.package is None:
        return None
    return Condition(OF_PACKAGE, {"package": criteria.package}, in_counters=False, in_findings=True)


def _fixable(criteria: ImageCriteria) -> Condition | None:
    if criteria.is_fixable is None:
        return None
    condition = FIXABLE if criteria.is_fixable else NOT_FIXABLE
    if criteria.cve_id is not None or criteria.package is not None:
        return Condition(condition, in_counters=False, in_findings=True)
    return Condition(_has_finding(condition), in_counters=False)


def _severities(criteria: ImageCriteria) -> Condition | None:
    if not criteria.severities:
        return None
    any_of: LiteralString = " OR ".join([_HAS_SEVERITY[each] for each in criteria.severities])
    return Condition(f"({any_of})", in_counters=False)


def _tag(criteria: ImageCriteria) -> Condition | None:
    if criteria.tag is None:
        return None
    return Condition(_HAS_TAG, {"tag": criteria.tag}, in_counters=False)


def _scanned(criteria: ImageCriteria) -> Condition | None:
    if criteria.scanned is None:
        return None
    if criteria.scanned is ScanAge.NEVER:
        return Condition("risk_score IS NULL")
    days = DEFAULT_STALE_DAYS if criteria.stale_days is None else criteria.stale_days
    return Condition(_OF_AGE[criteria.scanned], {"stale_days": days}, in_counters=False)


def _created_after(criteria: ImageCriteria) -> Condition | None:
    if criteria.created_after is None:
        return None
    parameters: Parameters = {"created_after": criteria.created_after}
    return Condition("created_at >= %(created_after)s", parameters, in_counters=False)


def _scanned_after(criteria: ImageCriteria) -> Condition | None:
    if criteria.scanned_after is None:
        return None
    parameters: Parameters = {"scanned_after": criteria.scanned_after}
    return Condition("last_scanned_at >= %(scanned_after)s", parameters, in_counters=False)


def _scanned_before(criteria: ImageCriteria) -> Condition | None:
    if criteria.scanned_before is None:
        return None
    parameters: Parameters = {"scanned_before": criteria.scanned_before}
    return Condition("last_scanned_at < %(scanned_before)s", parameters, in_counters=False)


Filter = Callable[[ImageCriteria], Condition | None]

# The filters of the list: each function returns the condition of its criterion, or None. Of those
# on findings, the first one that is requested must have an index (see `sets_query`).
FILTERS: tuple[Filter, ...] = (
    _registry,
    _risk_score,
    _grades,
    _search,
    _cve_id,
    _package,
    _fixable,
    _severities,
    _tag,
    _scanned,
    _created_after,
    _scanned_after,
    _scanned_before,
)


class ImageFilters:
    """The conditions of one query over the images of a scope; the tenant's is always the first."""

    def __init__(self, scope: Scope, criteria: ImageCriteria) -> None:
        requested = [*_limit_to_registry(scope), *_requested(criteria)]
        self._conditions = [each for each in requested if not each.in_findings]
        self._finding_conditions: list[LiteralString] = [
            each.sql for each in requested if each.in_findings
        ]
        self.parameters: Parameters = {"organization_id": scope.organization_id}
        for condition in requested:
            self.parameters |= condition.parameters
        # LIKE patterns for the words of the search term that have a trigram.
        self.word_patterns = [f"%{word.lower()}%" for word in _WORD.findall(criteria.search or "")]

    @property
    def is_empty(self) -> bool:
        """Return whether the tenant's is the only condition."""
        return not self._conditions and not self.has_findings

    @property
    def uses_counters(self) -> bool:
        """Return whether the counters have the columns of all conditions."""
        in_counters = all(condition.in_counters for condition in self._conditions)
        return in_counters and not self.has_findings

    @property
    def has_findings(self) -> bool:
        """Return whether the images are found by their findings."""
        return bool(self._finding_conditions)

    @property
    def source(self) -> LiteralString:
        """Return the item of FROM that has the images: the table, or those with a finding.

        Its alias is `images`. It has the conditions on findings; the caller adds the others.
        """
        if not self.has_findings:
            return "images"
        return f"""(
            SELECT image.*
            FROM ({sets_query(self._finding_conditions)}
            ) AS affected{IMAGE_OF_SET}
            WHERE image.{TENANT} AND image.set_id = affected.set_id
        ) AS images"""

    @property
    def is_search(self) -> bool:
        """Return whether a condition can use the trigram index of the names."""
        return any(_is_search(condition) for condition in self._conditions)

    @property
    def uses_names(self) -> bool:
        """Return whether the names have the columns of all conditions."""
        return all(condition.in_names for condition in self._conditions)

    @property
    def index_conditions(self) -> LiteralString:
        """Return all conditions, usable as index conditions of any index."""
        return " AND ".join([TENANT, *(condition.sql for condition in self._conditions)])

    def filter_conditions(self, *bounds: LiteralString) -> LiteralString:
        """Return all conditions; only the tenant's and `bounds` can be index conditions.

        The others have IS TRUE and are filters. So the planner cannot choose the index of one of
        them and sort the rows.
        """
        return " AND ".join([TENANT, *bounds, *_as_filters(self._conditions)])

    @property
    def names_conditions(self) -> LiteralString:
        """Return the conditions on names; only the tenant's can be an index condition."""
        in_names = [condition for condition in self._conditions if condition.in_names]
        return " AND ".join([TENANT, *_as_filters(in_names)])

    @property
    def search_conditions(self) -> LiteralString:
        """Return the tenant's condition and those that can use the trigram index, as filters."""
        searches = [condition for condition in self._conditions if _is_search(condition)]
        return " AND ".join([TENANT, *_as_filters(searches)])

    @property
    def trigram_conditions(self) -> LiteralString:
        """Return the conditions on names, for which only the trigram index can be used.

        An index is used only if the condition has its collation: organization_id has POSIX in the
        trigram index, and C in the primary key.
        """
        conditions = [condition for condition in self._conditions if condition.in_names]
        return " AND ".join([f'{TENANT} COLLATE "POSIX"', _WORD_OR_TERM, *_as_filters(conditions)])

    @property
    def remaining_conditions(self) -> LiteralString:
        """Return the tenant's condition and those on columns that the names do not have."""
        remaining = [condition for condition in self._conditions if not condition.in_names]
        return " AND ".join([TENANT, *_as_filters(remaining)])


def like_pattern(term: str) -> str:
    r"""Return a LIKE pattern for text that contains a term; `%`, `_` and `\` match themselves.

    Only the term's ASCII letters are converted to lower case, because image names are ASCII.
    `str.lower` would also convert other letters to ASCII ones, such as the Kelvin sign to `k`.
    """
    lowered = term.encode().lower().decode()
    escaped = lowered.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _limit_to_registry(scope: Scope) -> Sequence[Condition]:
    if scope.registry_id is None:
        return ()
    parameters: Parameters = {"scope_registry_id": scope.registry_id}
    return [Condition("registry_id = %(scope_registry_id)s", parameters, in_names=True)]


def _requested(criteria: ImageCriteria) -> Sequence[Condition]:
    conditions = [make_condition(criteria) for make_condition in FILTERS]
    return [condition for condition in conditions if condition is not None]


def _is_search(condition: Condition) -> bool:
    return condition.in_names and not condition.in_counters


def _as_filters(conditions: Sequence[Condition]) -> list[LiteralString]:
    return [f"({condition.sql}) IS TRUE" for condition in conditions]


_WORD = re.compile("[A-Za-z0-9]{3,}")
_WORD_OR_TERM: LiteralString = "name LIKE coalesce((SELECT word FROM rare_word), %(search)s)"
REGISTRY_MATCHES: LiteralString = """registry.id = %(registry)s
                OR lower(registry.host) = lower(%(registry)s)
                OR lower(registry.name) = lower(%(registry)s)"""
_IN_REGISTRY: LiteralString = f"""registry_id IN (
        SELECT registry.id
        FROM registries AS registry
        WHERE registry.organization_id = %(organization_id)s
            AND ({REGISTRY_MATCHES})
    )"""
_IN_RANGE: LiteralString = "risk_score BETWEEN %(low)s AND %(high)s"
_IN_TWO_RANGES: LiteralString = f"({_IN_RANGE} OR risk_score BETWEEN %(low_2)s AND %(high_2)s)"

# Conditions on a row of `findings`. The first line of HAS_CVE_ID and OF_PACKAGE is true for every
# row. It repeats the WHERE of a partial index, which PostgreSQL could not use otherwise.
HAS_CVE_ID: LiteralString = """vulnerability_id >= ''
                AND upper(vulnerability_id) COLLATE "C" = upper(%(cve_id)s)"""
OF_PACKAGE: LiteralString = """package >= ''
                AND lower(package) COLLATE "C" = lower(%(package)s)"""
FIXABLE: LiteralString = "fixed_version IS NOT NULL"
NOT_FIXABLE: LiteralString = "fixed_version IS NULL"
# Joins the image of a set of findings to rows named `affected`. The caller adds the condition that
# the set is that of the image's counts. One index supports each subquery.
IMAGE_OF_SET: LiteralString = f"""
            CROSS JOIN LATERAL (
                SELECT image_id
                FROM finding_sets
                WHERE {TENANT} COLLATE "POSIX" AND id = affected.set_id
                LIMIT 1
            ) AS finding_set
            CROSS JOIN LATERAL ({row_by_key("images", "id", "finding_set.image_id")}
            ) AS image"""
DEFAULT_STALE_DAYS = 30
_HAS_SEVERITY: dict[CountedSeverity, LiteralString] = {
    CountedSeverity.CRITICAL: "critical > 0",
    CountedSeverity.HIGH: "high > 0",
    CountedSeverity.MEDIUM: "medium > 0",
    CountedSeverity.LOW: "low > 0",
}
_STALE_SINCE: LiteralString = "now() - %(stale_days)s * interval '1 day'"
_OF_AGE: dict[ScanAge, LiteralString] = {
    ScanAge.STALE: f"last_scanned_at < {_STALE_SINCE}",
    ScanAge.FRESH: f"last_scanned_at >= {_STALE_SINCE}",
}
# Whether the image has the tag. Only the unique index of tags has this order, so it is used.
_HAS_TAG: LiteralString = """(
        SELECT tag.name
        FROM tags AS tag
        WHERE tag.organization_id = %(organization_id)s
            AND tag.image_id = images.id
            AND tag.name >= %(tag)s
        ORDER BY tag.name
        LIMIT 1
    ) = %(tag)s"""


def sets_query(conditions: Sequence[LiteralString]) -> LiteralString:
    """Return a query for the sets that have a finding with these conditions.

    The first one is the index condition.
    """
    first, *others = conditions
    filters = "".join([f" AND ({condition}) IS TRUE" for condition in others])
    return f"""
                SELECT DISTINCT set_id
                FROM findings
                WHERE {TENANT} COLLATE "POSIX" AND {first}{filters}"""


def _has_finding(condition: LiteralString) -> LiteralString:
    # Without OFFSET, PostgreSQL could read the findings of all images into a hash table.
    return f"""EXISTS (
        SELECT
        FROM findings AS finding
        WHERE finding.organization_id = %(organization_id)s
            AND finding.set_id = images.set_id
            AND {condition}
        OFFSET 0
    )"""
