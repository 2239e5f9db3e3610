"""Scans recorded: one transaction from the registry down to the image's summary."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from harborguard.errors import Conflict
from harborguard.model import Finding, RecordedScan, Scan, ScanStatus
from harborguard.store.connection import Connection
from harborguard.store.counters import change_counters
from harborguard.store.statements import STATEMENTS

_FINISHED = {ScanStatus.SUCCESS, ScanStatus.PARTIAL}


def record_scan(conn: Connection, organization_id: str, scan: Scan) -> RecordedScan:
    """Records a scan with its findings and makes the image's row say what it now should.

    All or nothing. A replay (same identity, same content) changes nothing; the same identity with
    other content raises Conflict.
    """
    with conn.transaction():
        registry_id = ensure_registry(conn, organization_id, scan.report.reference.host)
        name = scan.report.reference.name
        image_id, is_new = _ensure_image(conn, organization_id, registry_id, name)
        scan_id = _insert_scan(conn, organization_id, image_id, scan)
        if scan_id is None:
            return _replayed(conn, organization_id, image_id, scan)
        _copy_findings(conn, organization_id, scan_id, scan.report.findings)
        _observe_tag(conn, organization_id, image_id, scan)
        added = {registry_id: 1} if is_new else {}
        refresh_image_summaries(conn, organization_id, [image_id], added=added)
    return RecordedScan(scan_id, image_id, is_new=True, scanners=scan.report.scanners)


def ensure_registry(conn: Connection, organization_id: str, host: str) -> str:
    """The id of the organization's registry with a host, made on first sight."""
    key = {"organization_id": organization_id, "host": host}
    conn.execute(STATEMENTS["add_registry"], key)
    return _one(conn, "find_registry", key)[0]


def find_registry(conn: Connection, organization_id: str, host: str) -> str | None:
    """The id of the organization's registry with a host, if there is one."""
    key = {"organization_id": organization_id, "host": host}
    row = conn.execute(STATEMENTS["find_registry"], key).fetchone()
    return row[0] if row else None


def refresh_image_summaries(
    conn: Connection,
    organization_id: str,
    image_ids: list[str],
    *,
    added: Mapping[str, int] | None = None,
) -> list[str]:
    """Recomputes the images' summaries from tags and scans; the ids of those that changed.

    The last step of a transaction that holds the images' rows: it also moves the counters and the
    inventory's version. `added` says how many of the images are new in it, by registry.
    """
    added = {registry_id: n for registry_id, n in (added or {}).items() if n}
    parameters = {"organization_id": organization_id, "image_ids": image_ids}
    changed = conn.execute(STATEMENTS["refresh_image_summary"], parameters).fetchall()
    changes = Counter[tuple[str, int | None]]({(key, None): n for key, n in added.items()})
    for _, registry_id, score_before, score_after in changed:
        changes[registry_id, score_before] -= 1
        changes[registry_id, score_after] += 1
    if changed or added:
        change_counters(conn, organization_id, changes, sum(added.values()))
    return [row[0] for row in changed]


def _ensure_image(
    conn: Connection, organization_id: str, registry_id: str, name: str
) -> tuple[str, bool]:
    key = {"organization_id": organization_id, "name": name}
    added = conn.execute(STATEMENTS["add_image"], {**key, "registry_id": registry_id}).fetchone()
    return _one(conn, "lock_image", key)[0], added is not None


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
    return RecordedScan(scan_id, image_id, is_new=False, scanners=scan.report.scanners)


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
