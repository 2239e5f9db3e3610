"""The statement that counts a list's images by registry and grade, from the list's conditions."""

from typing import LiteralString

from harborguard.model import Grade
from harborguard.risk import score_ranges
from harborguard.store.image_query import ImageQuery, Statement


class SummaryQuery(ImageQuery):
    """The same question as a list's, answered with numbers."""

    def counts(self) -> Statement:
        """One row a registry: id, host, name, images, those of each grade, those never scanned."""
        return (
            f"""
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
        count(*) AS images,{_GRADES},
        count(*) FILTER (WHERE risk_score IS NULL) AS never_scanned
    FROM images
    WHERE {self._matches}
    GROUP BY registry_id
) AS counted
JOIN registries AS registry
    ON registry.organization_id = %(organization_id)s AND registry.id = counted.registry_id
ORDER BY registry.host
""",
            {**self._parameters, **_BOUNDS},
        )


# A grade is a range of scores, and scores are in every index where letters are not.
_GRADES: LiteralString = """
        count(*) FILTER (WHERE risk_score BETWEEN %(a_low)s AND %(a_high)s) AS a,
        count(*) FILTER (WHERE risk_score BETWEEN %(b_low)s AND %(b_high)s) AS b,
        count(*) FILTER (WHERE risk_score BETWEEN %(c_low)s AND %(c_high)s) AS c,
        count(*) FILTER (WHERE risk_score BETWEEN %(d_low)s AND %(d_high)s) AS d"""
_BOUNDS: dict[str, int] = {
    f"{grade.value.lower()}_{end}": bound
    for grade in Grade
    for ends in score_ranges([grade])
    for end, bound in zip(("low", "high"), ends, strict=True)
}
