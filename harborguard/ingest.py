"""Record a scan report. HTTP uploads and the command line both use `ingest_report`."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

from harborguard.errors import InvalidReport, Issue
from harborguard.model import RecordedScan, Reference, Report, Scan
from harborguard.references import parse_reference
from harborguard.reports import parse_report
from harborguard.risk import count_severities, grade, risk_score
from harborguard.store.connection import Connection
from harborguard.store.errors import retry_once
from harborguard.store.scans import record_scan
from harborguard.timestamps import CLOCK_TOLERANCE


def ingest_report(
    conn: Connection,
    organization_id: str,
    body: bytes,
    *,
    received_at: datetime,
    image: str | None = None,
    registry_id: str | None = None,
    before_new: Callable[[], None] = lambda: None,
) -> RecordedScan:
    """Record a scan report (JSON bytes) for an image of the organization.

    `image` overrides the image reference in the report. `registry_id` limits the caller to images
    of that registry. The report is parsed and scored before the transaction begins. `before_new`
    is called unless the report is a replay, and may raise an exception.

    Raise UnreadableReport, InvalidReport, InvalidReference (for `image`), Forbidden or Conflict;
    nothing is stored then.
    """
    scan = make_scan(body, received_at=received_at, image=image)
    return retry_once(
        lambda: record_scan(
            conn, organization_id, scan, scope_registry_id=registry_id, before_new=before_new
        )
    )


def make_scan(body: bytes, *, received_at: datetime, image: str | None = None) -> Scan:
    """Parse and score a report, and return the scan to record. Perform no I/O.

    The scan's finish time is `received_at` if the report has none. Raise UnreadableReport,
    InvalidReport or InvalidReference as `ingest_report` does.
    """
    reference = None if image is None else parse_reference(image)
    report = parse_report(body, reference=reference)
    finished_at = report.finished_at or received_at
    if finished_at > received_at + CLOCK_TOLERANCE:
        message = f"is {finished_at.isoformat()}, more than five minutes in the future"
        raise InvalidReport(
            "The scan's finish time is in the future.", [Issue(report.finished_at_path, message)]
        )
    content = _content_sha256(report.reference, body)
    counts = count_severities(report.findings)
    score = risk_score(counts)
    return Scan(
        external_id=report.external_id or _make_external_id(content, report, received_at),
        content_sha256=content,
        report=report,
        finished_at=finished_at,
        counts=counts,
        risk_score=score,
        grade=grade(score),
    )


def _make_external_id(content: bytes, report: Report, received_at: datetime) -> str:
    """Return the external id of a scan whose report has none, from its content.

    Without a time, the reports of two scans with the same results are equal. Their id also depends
    on the hour (UTC) of receipt, so that only a repetition within the hour is a replay.
    """
    if report.finished_at is None:
        hour = received_at.astimezone(UTC).strftime("%Y-%m-%dT%H")
        content = hashlib.sha256(content + hour.encode()).digest()
    return f"sha256:{content.hex()[:32]}"


def _content_sha256(reference: Reference, body: bytes) -> bytes:
    # The image is part of the content: one document recorded for two images is two scans.
    image = f"{reference.name}\n{reference.tag or ''}\n{reference.digest or ''}\n"
    digest = hashlib.sha256(image.encode())
    digest.update(body)
    return digest.digest()
