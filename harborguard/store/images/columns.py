"""SQL fragments for the columns of image rows, shared by every statement that returns them."""

from typing import LiteralString


def iso_time(column: LiteralString) -> LiteralString:
    """Return SQL that formats a timestamptz as the contract writes times (contract 1)."""
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""


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
