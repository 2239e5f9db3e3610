"""Conditions on image rows: the tenant's, and one for each filter of the list.

The statements of the list and of the summary use them. This module performs no I/O.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import LiteralString

from harborguard.listing import ImageCriteria
from harborguard.model import Scope
from harborguard.risk import score_ranges

Parameters = dict[str, str | int | list[str]]

TENANT: LiteralString = "organization_id = %(organization_id)s"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on a row of `images`, with the values of its parameters.

    `in_counters` is true if `image_counts` has every column that the condition reads, and
    `in_names` if `image_names` has. A condition that only `image_names` has can use its trigram
    index. If neither has, the matching rows of `images` are counted.
    """

    sql: LiteralString
    parameters: Parameters = field(default_factory=dict)
    in_counters: bool = True
    in_names: bool = False


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


Filter = Callable[[ImageCriteria], Condition | None]

# The filters of the list: each function returns the condition of its criterion, or None.
FILTERS: tuple[Filter, ...] = (_registry, _risk_score, _grades, _search)


class ImageFilters:
    """The conditions of one query over the images of a scope; the tenant's is always the first."""

    def __init__(self, scope: Scope, criteria: ImageCriteria) -> None:
        self._conditions = [*_limit_to_registry(scope), *_requested(criteria)]
        self.parameters: Parameters = {"organization_id": scope.organization_id}
        for condition in self._conditions:
            self.parameters |= condition.parameters
        # LIKE patterns for the words of the search term that have a trigram.
        self.words = [f"%{word.lower()}%" for word in _WORD.findall(criteria.search or "")]

    @property
    def is_empty(self) -> bool:
        """Return whether the tenant's is the only condition."""
        return not self._conditions

    @property
    def uses_counters(self) -> bool:
        """Return whether the counters have the columns of all conditions."""
        return all(condition.in_counters for condition in self._conditions)

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

        The primary key has another collation than the tenant's condition here.
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
