"""Record scans: the registry, the image, its tag, the findings and the summary columns."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from harborguard.errors import Conflict, Forbidden
from harborguard.model import Finding, ObservedTag, RecordedScan, Scan, ScanStatus, SeverityCounts
from harborguard.store.connection import Connection
from harborguard.store.errors import reject_unstorable_values
from harborguard.store.images.refresh import refresh_images
from harborguard.store.images.rows import ensure_image
from harborguard.store.registries import ensure_registry
from harborguard.store.statements import STATEMENTS
from harborguard.store.tags import observe_tags


def record_scan(
    conn: Connection,
    organization_id: str,
    scan: Scan,
    *,
    scope_registry_id: str | None = None,
    before_new: Callable[[], None] = lambda: None,
) -> RecordedScan:
    """Record a scan with its findings and refresh the image's row, in one transaction.

    A replay (same external id, same content) changes nothing, except that it restores the findings
    of a scan that is no longer superseded (contract 6.9). `before_new` is called for any other
    scan; an exception that it raises cancels the transaction. Raise Forbidden if the caller is
    limited to `scope_registry_id` and the image is of another registry. Raise InvalidReport if the
    database cannot store a value. Raise Conflict if the external id is recorded with other content.
    It has the recorded scan's id, unless the caller is limited to another registry than that of the
    recorded scan (contract 8.5).
    """
    with reject_unstorable_values(), conn.transaction():
        registry_id = ensure_registry(conn, organization_id, scan.report.reference.host)
        if scope_registry_id not in {None, registry_id}:
            raise Forbidden("This API key can record only images of its registry.")
        name = scan.report.reference.name
        image_id, is_new = ensure_image(conn, organization_id, registry_id, name)
        key = {"organization_id": organization_id, "image_id": image_id}
        while (scan_id := _insert_scan(conn, organization_id, image_id, scan)) is None:
            identity = {"organization_id": organization_id, "external_id": scan.external_id}
            if recorded := conn.execute(STATEMENTS["find_scan"], identity).fetchone():
                replay = _as_replay(recorded, image_id, scan, scope_registry_id)
                if _keep_findings(conn, key, replay.scan_id, scan.report.findings):
                    refresh_images(conn, organization_id, [image_id])
                return replay
            # Another transaction deleted the scan, of another image, between the statements.
        before_new()
        _keep_findings(conn, key, scan_id, scan.report.findings)
        _observe_tag(conn, organization_id, image_id, scan)
        added = {image_id: registry_id} if is_new else {}
        refresh_images(conn, organization_id, [image_id], added=added)
    is_finished = scan.report.status.is_finished
    return RecordedScan(
        scan_id,
        image_id,
        is_new=True,
        image_name=name,
        tag=scan.report.reference.tag,
        counts=scan.counts,
        risk_score=scan.risk_score if is_finished else None,
        grade=scan.grade.value if is_finished else None,
        scanners=scan.report.scanners,
    )


def _insert_scan(conn: Connection, organization_id: str, image_id: str, scan: Scan) -> str | None:
    parameters = {
        "organization_id": organization_id,
        "image_id": image_id,
        "external_id": scan.external_id,
        "content_sha256": scan.content_sha256,
        "tag": scan.report.reference.tag,
        "digest": scan.report.digest,
        "scanners": sorted(scan.report.scanners),
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


def _as_replay(
    recorded: tuple[Any, ...], image_id: str, scan: Scan, scope_registry_id: str | None
) -> RecordedScan:
    """Return a scan that is recorded already; raise Conflict if it has other content."""
    scan_id, recorded_image_id, content, registry_id, *results = recorded
    if (recorded_image_id, bytes(content)) != (image_id, scan.content_sha256):
        message = f"Scan {scan.external_id} is already recorded with other content."
        is_visible = scope_registry_id in {None, registry_id}
        raise Conflict(message, scan_id=scan_id if is_visible else None)
    tag, scanners, status, risk_score, grade, *counts = results
    is_finished = ScanStatus(status).is_finished
    return RecordedScan(
        scan_id,
        image_id,
        is_new=False,
        image_name=scan.report.reference.name,
        tag=tag,
        counts=SeverityCounts(*counts),
        risk_score=risk_score if is_finished else None,
        grade=grade if is_finished else None,
        scanners=tuple(scanners),
    )


def _keep_findings(
    conn: Connection, key: dict[str, str], scan_id: str, findings: Sequence[Finding]
) -> bool:
    """Store a scan's findings, and delete those of the scans that it supersedes.

    Return False if nothing is stored: the scan is unfinished or superseded, or has its findings.
    Scans of an image with equal findings share one set (contract 6.9). `key` has the ids of the
    organization and of the image, whose row lock the caller holds.
    """
    rows = [_finding_columns(finding) for finding in findings]
    parameters = {**key, "scan_id": scan_id}
    sha256 = hashlib.sha256(json.dumps(rows).encode()).digest()
    kept = conn.execute(STATEMENTS["keep_findings"], {**parameters, "sha256": sha256}).fetchone()
    if kept is None:
        return False
    set_id, is_new = kept
    if is_new:
        with conn.cursor() as cursor, cursor.copy(STATEMENTS["copy_findings"]) as copy:
            for position, row in enumerate(rows):
                copy.write_row((key["organization_id"], set_id, position, *row))
    removed = conn.execute(STATEMENTS["remove_superseded_scans"], parameters).fetchall()
    delete_unused_findings(conn, key, {row[0] for row in removed} - {set_id, None})
    return True


def delete_unused_findings(conn: Connection, key: dict[str, str], set_ids: set[int]) -> None:
    """Delete those of an image's sets of findings that no current scan has any more."""
    if set_ids:
        parameters = {**key, "set_ids": sorted(set_ids)}
        unused = conn.execute(STATEMENTS["delete_unused_findings"], parameters).fetchall()
        findings = {**key, "set_ids": [row[0] for row in unused]}
        conn.execute(STATEMENTS["delete_findings"], findings)


def _finding_columns(finding: Finding) -> tuple[Any, ...]:
    return (
        finding.vulnerability_id,
        finding.package,
        finding.installed_version,
        finding.fixed_version,
        finding.severity.value,
        finding.cvss_score,
        finding.epss,
        finding.kev,
        finding.title,
        finding.url,
        list(finding.sources),
    )


def _observe_tag(conn: Connection, organization_id: str, image_id: str, scan: Scan) -> None:
    report = scan.report
    if report.reference.tag is None:
        return
    observe_tags(
        conn,
        organization_id,
        image_id,
        [ObservedTag(report.reference.tag, report.digest, report.built_at)],
        observed_at=scan.finished_at,
        is_confirmed=report.status.is_finished,
    )
