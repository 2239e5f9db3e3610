"""SQL fragments that statements about images share."""

from typing import LiteralString


def iso_time(column: LiteralString) -> LiteralString:
    """Return SQL that formats a timestamptz as the contract writes times (contract 1)."""
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""


def row_by_key(table: LiteralString, key: LiteralString, value: LiteralString) -> LiteralString:
    """Return a subquery for the tenant's row with this value of a unique key.

    BETWEEN with two equal bounds means `key = value`, and only the index of the key has the order
    of ORDER BY, so it is used. With `key = value` and no order, a generic plan that was made while
    the table was small may scan another index, and read all rows of the tenant for each value.
    """
    return f"""
    SELECT *
    FROM {table} AS full_row
    WHERE full_row.organization_id = %(organization_id)s
        AND full_row.{key} BETWEEN {value} AND {value}
    ORDER BY full_row.{key}
    LIMIT 1"""


# The columns of `listing.ImageSummary` in its order, read from a row named `image`. The formatted
# times have no alias: ORDER BY must use the timestamptz columns, with their microseconds.
IMAGE_COLUMNS: LiteralString = f"""image.id,
    image.name,
    image.registry_id,
    image.tag_count,
    image.latest_tag,
    image.latest_digest,
    image.risk_score,
    image.grade,
    image.critical,
    image.high,
    image.medium,
    image.low,
    {iso_time("image.last_scanned_at")},
    {iso_time("image.created_at")}"""
