"""What a question asks of an image's row, as conditions of SQL: the tenant's is always the first.

Pure, and shared by all statements over images and their counters, so that they cannot drift apart.
"""

from collections.abc import Iterable
from datetime import date
from typing import LiteralString

from harborguard.listing import ImageCriteria
from harborguard.model import Grade, Scope
from harborguard.risk import score_ranges

Parameters = dict[str, str | int | date]

TENANT: LiteralString = "organization_id = %(organization_id)s"


class ImageFilters:
    """The conditions beside the tenant's, and the parameters of all of them."""

    def __init__(self, scope: Scope, criteria: ImageCriteria) -> None:
        self.conditions: list[LiteralString] = []
        self.parameters: Parameters = {"organization_id": scope.organization_id}
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

    @property
    def entered(self) -> LiteralString:
        """All conditions, for a planner that may enter an index by any of them."""
        return " AND ".join([TENANT, *self.conditions])

    def looked_up(self, *bounds: LiteralString) -> LiteralString:
        """All conditions, of which only the tenant's and `bounds` can enter an index."""
        filters: list[LiteralString] = [f"({condition}) IS TRUE" for condition in self.conditions]
        return " AND ".join([TENANT, *bounds, *filters])

    def _where(self, condition: LiteralString, **parameters: str | int) -> None:
        self.conditions.append(condition)
        self.parameters.update(parameters)

    def _where_grades(self, grades: Iterable[Grade]) -> None:
        # A grade is a range of scores, and scores are in every index where letters are not.
        bounds = score_ranges(grades)
        if len(bounds) == 1:
            [(low, high)] = bounds
            self._where(_IN_RANGE, low=low, high=high)
        else:
            [(low, high), (low_2, high_2)] = bounds
            self._where(_IN_TWO_RANGES, low=low, high=high, low_2=low_2, high_2=high_2)


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


def like_pattern(term: str) -> str:
    r"""A LIKE pattern that matches names containing the term; `%`, `_` and `\` mean themselves.

    Names are lower-case ASCII, so the term's ASCII letters are lowered and nothing else is: another
    alphabet's letter that lowers to an ASCII one (the Kelvin sign) must not match.
    """
    lowered = term.encode().lower().decode()
    escaped = lowered.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
