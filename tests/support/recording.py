"""Recording a scan, and looking at what it left: what the tests of it share."""

from datetime import datetime, timedelta
from typing import Any, TypeVar

from psycopg.rows import dict_row

from harborguard.ingest import ingest_report
from harborguard.listing import ImageCriteria, ImageSummary, Page
from harborguard.model import RecordedScan, Scope
from harborguard.store.connection import Connection
from harborguard.store.images.list import list_images
from tests.support import oracle, reports
from tests.support.reports import RECEIVED_AT, image_rows

NAME = "ghcr.io/acme/api"
DAY = timedelta(days=1)
T = TypeVar("T")
TABLES = ["registries", "images", "tags", "scans", "findings"]


def ingest(
    conn: Connection,
    organization_id: str,
    body: bytes,
    *,
    image: str | None = None,
    received_at: datetime = RECEIVED_AT,
) -> RecordedScan:
    return ingest_report(conn, organization_id, body, received_at=received_at, image=image)


def rows_of(conn: Connection, table: str) -> list[dict[str, Any]]:
    """All rows of a table, of every organization, in no order."""
    query = f"SELECT * FROM {table}"
    return conn.cursor(row_factory=dict_row).execute(query).fetchall()  # pyright: ignore


def row_of(conn: Connection, organization_id: str, name: str = NAME) -> dict[str, Any]:
    return image_rows(conn, organization_id)[name]


def listed(conn: Connection, organization_id: str) -> list[ImageSummary]:
    return list_images(conn, Scope(organization_id), ImageCriteria(), Page()).items


def record_all(conn: Connection, organization_id: str, *scans: oracle.Scan) -> dict[str, Any]:
    """The image's row after these scans, which must be the oracle's."""
    for scan in scans:
        ingest(conn, organization_id, body_of(scan))
    row = row_of(conn, organization_id)
    assert row == oracle.image_row(scans)
    return row


def body_of(scan: oracle.Scan) -> bytes:
    """An envelope that tells all of the oracle's scan but a build time."""
    assert scan.built_at is None
    name = f"{NAME}:{scan.tag}" if scan.tag else f"{NAME}@{scan.digest}"
    return reports.envelope(
        name,
        scan.counts,
        scan_id=scan.identity,
        finished_at=scan.finished_at,
        status=scan.status,
        digest=scan.digest,
    )
