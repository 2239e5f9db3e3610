"""The number of a scope's images by registry and grade, with the list's filters."""

from typing import LiteralString

from harborguard.listing import ImageCriteria, RegistryCount
from harborguard.model import Grade, Scope
from harborguard.risk import score_ranges
from harborguard.store.connection import Connection
from harborguard.store.images.filters import ImageFilters, Parameters


def count_images(
    conn: Connection, scope: Scope, criteria: ImageCriteria, *, use_counters: bool = True
) -> list[RegistryCount]:
    """Return the number of matching images by registry; omit registries without any.

    `use_counters=False` counts rows, so that tests can compare both ways.
    """
    filters = ImageFilters(scope, criteria)
    query = make_summary_query(filters, use_counters=use_counters and filters.uses_counters)
    return [RegistryCount._make((*row[:4], row[4:8], row[8])) for row in conn.execute(*query)]


def make_summary_query(
    filters: ImageFilters, *, use_counters: bool
) -> tuple[LiteralString, Parameters]:
    """Return the statement: a row for each registry, by host, with the columns of RegistryCount."""
    source: LiteralString = "n::integer FROM image_counts"
    if not use_counters:
        source = f"1 AS n FROM {filters.source}"
    text: LiteralString = f"""
SELECT
    registry.id,
    registry.host,
    registry.name,
    counted.images,
    counted.a,
    counted.b,
    counted.c,
    counted.d,
    counted.never_scanned
FROM (
    SELECT
        registry_id,
        sum(n) AS images,{GRADE_COUNTS},
        coalesce(sum(n) FILTER (WHERE risk_score IS NULL), 0) AS never_scanned
    FROM (
        SELECT registry_id, risk_score, {source} WHERE {filters.index_conditions}
    ) AS matching
    GROUP BY registry_id
    HAVING sum(n) > 0
) AS counted
JOIN registries AS registry
    ON registry.organization_id = %(organization_id)s AND registry.id = counted.registry_id
ORDER BY registry.host
"""
    return text, {**filters.parameters, **GRADE_BOUNDS}


# A grade is a range of scores. The indexes of the list contain the score, but not the grade.
GRADE_COUNTS: LiteralString = """
        coalesce(sum(n) FILTER (WHERE risk_score BETWEEN %(a_low)s AND %(a_high)s), 0) AS a,
        coalesce(sum(n) FILTER (WHERE risk_score BETWEEN %(b_low)s AND %(b_high)s), 0) AS b,
        coalesce(sum(n) FILTER (WHERE risk_score BETWEEN %(c_low)s AND %(c_high)s), 0) AS c,
        coalesce(sum(n) FILTER (WHERE risk_score BETWEEN %(d_low)s AND %(d_high)s), 0) AS d"""
GRADE_BOUNDS: dict[str, int] = {
    f"{grade.value.lower()}_{end}": bound
    for grade in Grade
    for ends in score_ranges([grade])
    for end, bound in zip(("low", "high"), ends, strict=True)
}
