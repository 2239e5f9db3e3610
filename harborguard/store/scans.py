"""Scans recorded: one transaction from the registry down to the image's summary."""

from collections.abc import Iterable
from typing import Any

from harborguard.errors import Conflict
from harborguard.model import Finding, RecordedScan, Scan, ScanStatus
from harborguard.store.pool import Connection
from harborguard.store.statements import STATEMENTS

_FINISHED = {ScanStatus.SUCCESS, ScanStatus.PARTIAL}


def record_scan(conn: Connection, organization_id: str, scan: Scan) -> RecordedScan:
    """Records a scan with its findings and makes the image's row say what it now should.

    All or nothing. A replay (same identity, same content) changes nothing; the same identity with
    other content raises Conflict.
    """
    with conn.transaction():
        registry_id = ensure_registry(conn, organization_id, scan.report.reference.host)
        image_id = _ensure_image(conn, organization_id, registry_id, scan.report.reference.name)
        scan_id = _insert_scan(conn, organization_id, image_id, scan)
        if scan_id is None:
            return _replayed(conn, organization_id, image_id, scan)
        _copy_findings(conn, organization_id, scan_id, scan.report.findings)
        _observe_tag(conn, organization_id, image_id, scan)
        refresh_image_summaries(conn, organization_id, [image_id])
    return RecordedScan(scan_id, image_id, is_new=True)


def ensure_registry(conn: Connection, organization_id: str, host: str) -> str:
    """The id of the organization's registry with a host, made on first sight."""
    key = {"organization_id": organization_id, "host": host}
    conn.execute(STATEMENTS["add_registry"], key)
    return _one(conn, "find_registry", key)[0]


def is_of_registry(conn: Connection, organization_id: str, registry_id: str, host: str) -> bool:
    """Whether the organization's registry of this id is the one with a host."""
    key = {"organization_id": organization_id, "host": host}
    row = conn.execute(STATEMENTS["find_registry"], key).fetchone()
    return row is not None and row[0] == registry_id


def refresh_image_summaries(
    conn: Connection, organization_id: str, image_ids: list[str]
) -> list[str]:
    """Recomputes the images' summaries from tags and scans; the ids of those that changed."""
    parameters = {"organization_id": organization_id, "image_ids": image_ids}
    return [row[0] for row in conn.execute(STATEMENTS["refresh_image_summary"], parameters)]


def _ensure_image(conn: Connection, organization_id: str, registry_id: str, name: str) -> str:
    key = {"organization_id": organization_id, "name": name}
    conn.execute(STATEMENTS["add_image"], {**key, "registry_id": registry_id})
    return _one(conn, "lock_image", key)[0]


def _insert_scan(conn: Connection, organization_id: str, image_id: str, scan: Scan) -> str | None:
    parameters = {
        "organization_id": organization_id,
        "image_id": image_id,
        "external_id": scan.external_id,
        "content_sha256": scan.content_digest,
        "tag": scan.report.reference.tag,
        "digest": scan.report.digest,
        "scanners": list(scan.report.scanners),
        "status": scan.report.status.value,
        "started_at": scan.report.started_at,
        "finished_at": scan.finished_at,
        "critical": scan.counts.critical,
        "high": scan.counts.high,
        "medium": scan.counts.medium,
        "low": scan.counts.low,
        "risk_score": scan.risk_score,
        "grade": scan.grade.value,
    }
    row = conn.execute(STATEMENTS["insert_scan"], parameters).fetchone()
    return row[0] if row else None


def _replayed(conn: Connection, organization_id: str, image_id: str, scan: Scan) -> RecordedScan:
    key = {"organization_id": organization_id, "external_id": scan.external_id}
    scan_id, recorded_image_id, content = _one(conn, "find_scan", key)
    if (recorded_image_id, bytes(content)) != (image_id, scan.content_digest):
        message = f"scan {scan.external_id} is recorded already, with other content"
        raise Conflict(message, scan_id=scan_id)
    return RecordedScan(scan_id, image_id, is_new=False)


def _copy_findings(
    conn: Connection, organization_id: str, scan_id: str, findings: Iterable[Finding]
) -> None:
    with conn.cursor() as cursor, cursor.copy(STATEMENTS["copy_findings"]) as copy:
        for position, finding in enumerate(findings):
            copy.write_row(
                (
                    organization_id,
                    scan_id,
                    position,
                    finding.vulnerability_id,
                    finding.package,
                    finding.installed_version,
                    finding.fixed_version,
                    finding.severity.value,
                    finding.cvss_score,
                    finding.title,
                    finding.url,
                    list(finding.sources),
                )
            )


def _observe_tag(conn: Connection, organization_id: str, image_id: str, scan: Scan) -> None:
    if scan.report.reference.tag is None:
        return
    parameters = {
        "organization_id": organization_id,
        "image_id": image_id,
        "tag": scan.report.reference.tag,
        "digest": scan.report.digest,
        "is_confirmed": scan.report.status in _FINISHED,
        "built_at": scan.report.built_at,
        "observed_at": scan.finished_at,
    }
    conn.execute(STATEMENTS["observe_tag"], parameters)


def _one(conn: Connection, statement: str, key: dict[str, str]) -> tuple[Any, ...]:
    row = conn.execute(STATEMENTS[statement], key).fetchone()
    if row is None:
        raise LookupError(f"{statement} found nothing for {key}")
    return row
