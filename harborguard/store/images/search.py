"""Find the names that match a search. This module performs no I/O.

`image_names` is a copy of the names, in a table that recording a report does not change. An
organization's names are read from its primary key if there are few or the term is common, and from
its trigram index otherwise. A sample shows whether a term is common.
"""

from typing import LiteralString

from harborguard.store.images.filters import TENANT, ImageFilters, Parameters

# Organizations with fewer images read all names.
MIN_TRIGRAM_IMAGES = 5_000
# Ids are random, so the images with the lowest ids are a random sample. If more than MAX_IN_SAMPLE
# of its names match, reading all names is faster than the trigram index.
SAMPLE_SIZE, MAX_IN_SAMPLE = 100, 15
# If a word of the term is in at most this many names of the sample, the trigram index is searched
# for the longest such word alone. Trigrams of common words take time and exclude few names.
MAX_RARE_IN_SAMPLE = 1
MAX_SORTED_MATCHES = 5000

PARAMETERS: Parameters = {
    "min_images": MIN_TRIGRAM_IMAGES,
    "sample_size": SAMPLE_SIZE,
    "max_in_sample": MAX_IN_SAMPLE,
    "max_rare": MAX_RARE_IN_SAMPLE,
    "max_sorted": MAX_SORTED_MATCHES,
}


def names_query(filters: ImageFilters) -> LiteralString:
    """Return the common table expressions `matches` and `few`.

    `few` has a row with the matching names if sorting their images is faster than scanning the
    index of the sort, as in `plan.plan_page`. Otherwise it has no row. `matches.result` is null if
    names are not looked up. Else it is an array of text: first the number of matches, or null if it
    is not known, and then up to `max_few` + 1 names. With that many names, sorting is slower.
    """
    in_trigram_index = _count_and_select(filters.trigram_conditions)
    is_rare: LiteralString = f"""cardinality(%(word_patterns)s::text[]) > 0
        AND (
            SELECT count(*) FROM sample WHERE {filters.search_conditions}
        ) <= %(max_in_sample)s"""
    cases: LiteralString = f"""
        WHEN image_count < %(min_images)s THEN NULL
        WHEN {is_rare} THEN {in_trigram_index}"""
    if filters.uses_names:
        cases = f"""
        WHEN image_count < %(min_images)s THEN NULL::text || ARRAY(
            SELECT name
            FROM image_names
            WHERE {filters.names_conditions}
            LIMIT max_few + 1
        )
        WHEN (
            SELECT count(*) FROM sample WHERE {filters.names_conditions}
        ) > %(max_in_sample)s THEN NULL
        WHEN {is_rare} THEN {in_trigram_index}
        ELSE {_count_and_select(filters.names_conditions)}"""
    return f"""{_SAMPLE},
matches AS MATERIALIZED (
    SELECT organization_id, max_few, CASE{cases}
    END AS result
    FROM (
        SELECT organization_id, image_count, {_MAX_FEW} AS max_few
        FROM inventories
        WHERE {TENANT}
    ) AS inventory
),
few AS MATERIALIZED (
    SELECT result[2:] AS names
    FROM matches
    WHERE {TENANT} AND cardinality(result) <= max_few + 1
)"""


def _count_and_select(conditions: LiteralString) -> LiteralString:
    return f"""(
            SELECT count(*)::text || (array_agg(name))[:max_few + 1]
            FROM image_names
            WHERE {conditions}
        )"""


def name_count(filters: ImageFilters) -> LiteralString:
    """Return the number of names that match all conditions; it is computed only if necessary."""
    return f"""coalesce(
        (SELECT cardinality(names) FROM few),
        (SELECT result[1]::bigint FROM matches),
        (SELECT count(*) FROM image_names WHERE {filters.names_conditions})
    )"""


# If n of N images match, an index scan reads `max_matches` * N / n entries. Finding an image by
# its name takes about as long as reading 40 entries. So sorting is faster if 40 * n is smaller,
# which is if n < sqrt(max_matches * N / 40).
_MAX_FEW: LiteralString = """least(
            %(max_sorted)s, sqrt(%(max_matches)s * image_count::float8 / 40)
        )::integer"""
_SAMPLE: LiteralString = f"""
WITH sample AS MATERIALIZED (
    SELECT organization_id, name, registry_id
    FROM images
    WHERE {TENANT}
    ORDER BY id
    LIMIT %(sample_size)s
),
rare_word AS (
    SELECT word
    FROM unnest(%(word_patterns)s::text[]) AS word
    CROSS JOIN sample
    GROUP BY word
    HAVING sum((name LIKE word)::integer) <= %(max_rare)s
    ORDER BY length(word) DESC
    LIMIT 1
)"""
