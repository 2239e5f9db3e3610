"""Export the images of a scope as CSV or NDJSON: one snapshot, written by COPY (contract 8.16)."""

from collections.abc import Generator
from contextlib import closing
from enum import StrEnum
from time import monotonic
from typing import LiteralString

from harborguard.config import Config
from harborguard.errors import RateLimited, StatementTimeout
from harborguard.listing import ImageCriteria
from harborguard.model import Scope
from harborguard.store.connection import Connection
from harborguard.store.images.columns import iso_time
from harborguard.store.images.filters import ImageFilters, Parameters
from harborguard.store.images.query import DEFAULT_SORT, ORDERS
from harborguard.store.pool import connect_outside_pool
from harborguard.store.statements import STATEMENTS

_BLOCK = 64 * 1024  # bytes
_ONE_EXPORT = "One export at a time is allowed for a credential."
_BUSY = "The maximum number of exports is running; try again later."


class ExportFormat(StrEnum):
    """The format of an export."""

    CSV = "csv"
    NDJSON = "ndjson"


def export_images(
    config: Config,
    scope: Scope,
    criteria: ImageCriteria,
    export_format: ExportFormat,
    *,
    caller: str,
) -> Generator[bytes]:
    """Yield the bytes of an export in blocks, none of them empty. NDJSON without rows has none.

    It opens a connection, and closes it when the generator is exhausted or closed. A caller (the id
    of a principal) may run one export at a time, and the service `Config.exports` of them. Raise
    RateLimited for another one, and StatementTimeout after `Config.export_timeout_ms`, which
    includes the time between two blocks.
    """
    deadline = monotonic() + config.export_timeout_ms / 1000
    statement, parameters = build_export(scope, criteria, export_format)
    with connect_outside_pool(config) as conn, conn.transaction():
        begin = {"slots": config.exports, "timeout_ms": config.export_timeout_ms, "caller": caller}
        [(is_free, has_slot)] = conn.execute(STATEMENTS["begin_export"], begin).fetchall()
        if not has_slot:
            raise RateLimited(_BUSY if is_free else _ONE_EXPORT, retry_after=5)
        with closing(copy_out(conn, statement, parameters)) as blocks:
            for block in blocks:
                yield block
                # PostgreSQL cannot cancel a COPY that waits until its output is read.
                conn.timeout = deadline - monotonic()
                if conn.timeout < 0:
                    raise StatementTimeout


def copy_out(
    conn: Connection, statement: LiteralString, parameters: Parameters
) -> Generator[bytes]:
    """Yield the output of a COPY statement in blocks of about 64 KiB, without reading the rows."""
    block: list[bytes] = []
    size = 0
    # COPY cannot have parameters of the protocol. psycopg puts them into the text as literals.
    with conn.cursor().copy(statement, parameters) as copy:
        for data in copy:
            block.append(bytes(data))
            size += len(data)
            if size >= _BLOCK:
                yield b"".join(block)
                block, size = [], 0
    if block:
        yield b"".join(block)


def build_export(
    scope: Scope, criteria: ImageCriteria, export_format: ExportFormat
) -> tuple[LiteralString, Parameters]:
    """Return the COPY statement of all images that match, in the order of the list."""
    filters = ImageFilters(scope, criteria)
    columns, options = _FORMATS[export_format]
    rows: LiteralString = f"""
    SELECT
        {columns}
    FROM (
        SELECT *
        FROM {filters.source}
        WHERE {filters.index_conditions}
    ) AS image
    ORDER BY {_qualify(ORDERS[criteria.sort or DEFAULT_SORT])}"""
    if export_format is ExportFormat.NDJSON:
        rows = f"""
    SELECT row_to_json(line)
    FROM ({rows}
    ) AS line"""
    return f"COPY ({rows}\n) TO STDOUT WITH ({options})", filters.parameters


def _qualify(order: LiteralString) -> LiteralString:
    # The output columns have other names and forms than those of the order.
    return ", ".join([f"image.{column}" for column in order.split(", ")])


def _as_cell(column: LiteralString) -> LiteralString:
    # A spreadsheet runs a cell that begins with one of these as a formula (OWASP, CSV injection).
    return f"""CASE
            WHEN left({column}, 1) IN ('=', '+', '-', '@', E'\\t', E'\\r') THEN '''' || {column}
            ELSE {column}
        END"""


def _columns(
    name: LiteralString, tag: LiteralString, digest: LiteralString, counts: LiteralString
) -> LiteralString:
    return f"""image.id,
        {name} AS name,
        image.registry_id AS "registryId",
        image.tag_count AS "tagCount",
        {tag} AS "latestTag",
        {digest} AS "latestDigest",
        image.risk_score AS "riskScore",
        image.grade,
        {counts},
        {iso_time("image.last_scanned_at")} AS "lastScannedAt",
        {iso_time("image.created_at")} AS "createdAt\""""


_COUNTS: LiteralString = "image.critical, image.high, image.medium, image.low"
_FORMATS: dict[ExportFormat, tuple[LiteralString, LiteralString]] = {
    ExportFormat.CSV: (
        _columns(
            _as_cell("image.name"),
            _as_cell("image.latest_tag"),
            _as_cell("image.latest_digest"),
            _COUNTS,
        ),
        "FORMAT csv, HEADER true",
    ),
    # COPY's text format would escape backslashes. Its CSV format copies a line unchanged if the
    # line has neither the quote nor the delimiter, and JSON never contains these two.
    ExportFormat.NDJSON: (
        _columns(
            "image.name",
            "image.latest_tag",
            "image.latest_digest",
            f"(SELECT counts FROM (SELECT {_COUNTS}) AS counts) AS vulnerabilities",
        ),
        r"FORMAT csv, QUOTE E'\x01', ESCAPE E'\x01', DELIMITER E'\x02'",
    ),
}
