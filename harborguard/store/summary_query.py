"""The statement that counts a list's images by registry and grade, from the list's conditions."""

from typing import LiteralString

from harborguard.model import Grade
from harborguard.risk import score_ranges
from harborguard.store.image_filters import ImageFilters, Parameters


def make_summary_query(
    filters: ImageFilters, *, from_counters: bool
) -> tuple[LiteralString, Parameters]:
    """One row a registry: id, host, name, images, those of each grade, those never scanned.

    The counters say all of it, but for a search.
    """
    source: LiteralString = (
        "n::integer FROM image_counts" if from_counters else "1 AS n FROM images"
    )
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
        sum(n) AS images,{_GRADES},
        coalesce(sum(n) FILTER (WHERE risk_score IS NULL), 0) AS never_scanned
    FROM (
        SELECT registry_id, risk_score, {source} WHERE {filters.entered}
    ) AS matching
    GROUP BY registry_id
    HAVING sum(n) > 0
) AS counted
JOIN registries AS registry
    ON registry.organization_id = %(organization_id)s AND registry.id = counted.registry_id
ORDER BY registry.host
"""
    return text, {**filters.parameters, **_BOUNDS}


# A grade is a range of scores, and scores are in every index where letters are not.
_GRADES: LiteralString = """
        coalesce(sum(n) FILTER (WHERE risk_score BETWEEN %(a_low)s AND %(a_high)s), 0) AS a,
        coalesce(sum(n) FILTER (WHERE risk_score BETWEEN %(b_low)s AND %(b_high)s), 0) AS b,
        coalesce(sum(n) FILTER (WHERE risk_score BETWEEN %(c_low)s AND %(c_high)s), 0) AS c,
        coalesce(sum(n) FILTER (WHERE risk_score BETWEEN %(d_low)s AND %(d_high)s), 0) AS d"""
_BOUNDS: dict[str, int] = {
    f"{grade.value.lower()}_{end}": bound
    for grade in Grade
    for ends in score_ranges([grade])
    for end, bound in zip(("low", "high"), ends, strict=True)
}
