"""Conditions on image rows: the tenant's, and one for each filter of the list.

The statements of the list and of the summary use them. This module performs no I/O.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import LiteralString

from harborguard.listing import ImageCriteria
from harborguard.model import Scope
from harborguard.risk import score_ranges

Parameters = dict[str, str | int]

TENANT: LiteralString = "organization_id = %(organization_id)s"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on a row of `images`, with the values of its parameters.

    `in_counters` is true if `image_counts` has every column that the condition reads. Otherwise the
    matching rows of `images` are counted.
    """

    sql: LiteralString
    parameters: Parameters = field(default_factory=dict)
    in_counters: bool = True


def _registry(criteria: ImageCriteria) -> Condition | None:
    if criteria.registry is None:
        return None
    return Condition(_IN_REGISTRY, {"registry": criteria.registry})


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
    return Condition(
        "name LIKE %(search)s", {"search": like_pattern(criteria.search)}, in_counters=False
    )


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

    @property
    def is_empty(self) -> bool:
        """Return whether the tenant's is the only condition."""
        return not self._conditions

    @property
    def uses_counters(self) -> bool:
        """Return whether the counters have the columns of all conditions."""
        return all(condition.in_counters for condition in self._conditions)

    @property
    def index_conditions(self) -> LiteralString:
        """Return all conditions, usable as index conditions of any index."""
        return " AND ".join([TENANT, *(condition.sql for condition in self._conditions)])

    def filter_conditions(self, *bounds: LiteralString) -> LiteralString:
        """Return all conditions; only the tenant's and `bounds` can be index conditions.

        The others have IS TRUE and are filters. So the planner cannot choose the index of one of
        them and sort the rows.
        """
        filters: list[LiteralString] = [f"({c.sql}) IS TRUE" for c in self._conditions]
        return " AND ".join([TENANT, *bounds, *filters])


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
    return [Condition("registry_id = %(scope_registry_id)s", parameters)]


def _requested(criteria: ImageCriteria) -> Sequence[Condition]:
    conditions = [make_condition(criteria) for make_condition in FILTERS]
    return [condition for condition in conditions if condition is not None]


_IN_REGISTRY: LiteralString = """registry_id IN (
        SELECT registry.id
        FROM registries AS registry
        WHERE registry.organization_id = %(organization_id)s
            AND (
                registry.id = %(registry)s
                OR lower(registry.host) = lower(%(registry)s)
                OR lower(registry.name) = lower(%(registry)s)
            )
    )"""
_IN_RANGE: LiteralString = "risk_score BETWEEN %(low)s AND %(high)s"
_IN_TWO_RANGES: LiteralString = f"({_IN_RANGE} OR risk_score BETWEEN %(low_2)s AND %(high_2)s)"
