"""Record scans and read the stored rows, for the tests of recording."""

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
TABLES = ["registries", "images", "tags", "scans", "finding_sets", "findings", "scan_findings"]


def ingest(
    conn: Connection,
    organization_id: str,
    body: bytes,
    *,
    image: str | None = None,
    received_at: datetime = RECEIVED_AT,
) -> RecordedScan:
    """Record a report of the organization."""
    return ingest_report(conn, organization_id, body, received_at=received_at, image=image)


def rows_of(conn: Connection, table: str) -> list[dict[str, Any]]:
    """Return all rows of a table, of every organization, in any order."""
    query = f"SELECT * FROM {table}"
    return conn.cursor(row_factory=dict_row).execute(query).fetchall()  # pyright: ignore


def row_of(conn: Connection, organization_id: str, name: str = NAME) -> dict[str, Any]:
    """Return the row of one image."""
    return image_rows(conn, organization_id)[name]


def list_first_page(conn: Connection, organization_id: str) -> list[ImageSummary]:
    """Return the first page of the image list."""
    return list_images(conn, Scope(organization_id), ImageCriteria(), Page()).items


def record_all(conn: Connection, organization_id: str, *scans: oracle.Scan) -> dict[str, Any]:
    """Record the scans; return the image's row, which must equal the oracle's."""
    for scan in scans:
        ingest(conn, organization_id, body_of(scan))
    row = row_of(conn, organization_id)
    assert row == oracle.image_row(scans)
    return row


def body_of(scan: oracle.Scan) -> bytes:
    """Return an envelope with all fields of the scan except a build time."""
    assert scan.built_at is None
    name = f"{NAME}:{scan.tag}" if scan.tag else f"{NAME}@{scan.digest}"
    return reports.envelope(
        name,
        scan.counts,
        scan_id=scan.identity,
        finished_at=scan.finished_at,
        status=scan.status,
        digest=scan.digest,
        scanners=scan.scanners,
    )
