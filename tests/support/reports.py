"""Build minimal reports in each format, and read the rows that recording them stores."""

import json
import random
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import dict_row

from harborguard.model import Severity
from harborguard.store.connection import Connection

API = "ghcr.io/acme/api:1.4.7"
SCANNED_AT = datetime(2026, 4, 26, 14, 22, 11, tzinfo=UTC)
# The current time in most tests, later than the time of any report.
RECEIVED_AT = datetime(2026, 6, 1, tzinfo=UTC)

TABLES = (
    "organizations",
    "users",
    "api_keys",
    "personal_access_tokens",
    "registries",
    "images",
    "tags",
    "scans",
    "finding_sets",
    "findings",
    "scan_findings",
    "inventories",
    "image_counts",
    "image_changes",
)
# Generated when a row is first stored, so they depend on the order of arrival.
_GENERATED = (
    "organization_id",
    "id",
    "registry_id",
    "image_id",
    "scan_id",
    "set_id",
    "created_at",
    "recorded_at",
    "deleted_at",
    "version",
    "forgotten_version",
    "newest_scan_at",
)


def random_text(length: int) -> str:
    """Return characters of four bytes each, which PostgreSQL cannot compress."""
    generator = random.Random(0)
    return "".join(chr(generator.randrange(0x20000, 0x2A6D0)) for _ in range(length))


def manifest(letter: str) -> str:
    """Return a manifest digest made of one hexadecimal digit."""
    return f"sha256:{letter * 64}"


def envelope(
    reference: str | None = API,
    counts: tuple[int, ...] = (),
    *,
    scan_id: str = "scan-of-the-sensor",
    finished_at: datetime = SCANNED_AT,
    status: str = "SUCCESS",
    digest: str | None = None,
    scanners: tuple[str, ...] = ("trivy",),
) -> bytes:
    """Return a sensor envelope; `counts` are per severity, in the order of `Severity`.

    Each of the scanners reports every finding.
    """
    vulnerabilities = [
        {
            "cveId": name,
            "source": scanner,
            "severity": severity.upper(),
            "cvssScore": 7.5,
            "title": f"{name} in openssl",
            "packageName": "openssl",
            "installedVersion": "3.0.1",
            "fixedVersion": "3.0.2",
            "vulnerabilityUrl": f"https://example.org/{name}",
        }
        for name, severity in _list_vulnerabilities(counts)
        for scanner in scanners
    ]
    return _write(
        version="1.0",
        sensor={"scannerVersions": dict.fromkeys(scanners, "1.0")},
        image={"ref": reference, "digest": digest},
        scan={"id": scan_id, "finishedAt": finished_at.isoformat(), "status": status},
        findings={"vulnerabilities": vulnerabilities},
    )


def trivy(
    reference: str | None = API,
    counts: tuple[int, ...] = (),
    *,
    report_id: str = "",
    finished_at: datetime | None = SCANNED_AT,
    digest: str | None = None,
    built_at: datetime | None = None,
) -> bytes:
    """Return a Trivy report of schema 2. `report_id` changes only the bytes of the document."""
    vulnerabilities = [
        {"VulnerabilityID": name, "PkgName": "openssl", "Severity": severity.upper()}
        for name, severity in _list_vulnerabilities(counts)
    ]
    return _write(
        SchemaVersion=2,
        ReportID=report_id,
        CreatedAt=finished_at and finished_at.isoformat(),
        ArtifactName=reference,
        ArtifactType="container_image",
        Metadata={
            "RepoDigests": [f"mirror.test/copy@{digest}"] if digest else [],
            "ImageConfig": {"created": built_at and built_at.isoformat()},
        },
        Results=[{"Target": "debian", "Vulnerabilities": vulnerabilities}],
    )


def grype(
    reference: str | None = API,
    counts: tuple[int, ...] = (),
    *,
    finished_at: datetime | None = SCANNED_AT,
    digest: str | None = None,
) -> bytes:
    """Return a Grype report."""
    matches = [
        {
            "vulnerability": {"id": name, "severity": severity.title()},
            "artifact": {"name": "openssl", "version": "3.0.1"},
        }
        for name, severity in _list_vulnerabilities(counts)
    ]
    repo_digests = [f"mirror.test/copy@{digest}"] if digest else []
    return _write(
        matches=matches,
        source={"type": "image", "target": {"userInput": reference, "repoDigests": repo_digests}},
        descriptor={"name": "grype", "timestamp": finished_at and finished_at.isoformat()},
    )


def stored_rows(conn: Connection, organization_id: str | None = None) -> dict[str, list[str]]:
    """Return the rows of every table as text, optionally of one organization only."""
    return {table: _list_texts(conn, table, "t::text", organization_id) for table in TABLES}


def recorded_rows(conn: Connection, organization_id: str) -> dict[str, list[str]]:
    """Return what recording stored for an organization: rows as text without generated columns.

    `findings by scan` are the numbers of stored findings of the scans that have any set of them.
    """
    text = "(to_jsonb(t)" + "".join(f" - '{column}'" for column in _GENERATED) + ")::text"
    rows = {table: _list_texts(conn, table, text, organization_id) for table in TABLES[4:11]}
    return {
        **rows,
        "findings by scan": [str(each) for each in kept_findings(conn, organization_id)],
    }


def kept_findings(conn: Connection, organization_id: str) -> list[tuple[str, int]]:
    """Return the external ids of the scans whose findings are stored, and their numbers."""
    query = """
        SELECT scans.external_id, (
            SELECT count(*)
            FROM findings
            WHERE findings.organization_id = %(organization_id)s AND findings.set_id = kept.set_id
        )
        FROM scan_findings AS kept
        JOIN scans
            ON scans.organization_id = kept.organization_id
            AND scans.id = kept.scan_id
            AND scans.image_id = kept.image_id
            AND coalesce(scans.tag, '') = kept.tag_key
        WHERE kept.organization_id = %(organization_id)s AND kept.set_id IS NOT NULL
        ORDER BY scans.external_id
    """
    return conn.execute(query, {"organization_id": organization_id}).fetchall()


def image_rows(conn: Connection, organization_id: str) -> dict[str, dict[str, Any]]:
    """Return an organization's images by name, with the columns of `oracle.image_row`."""
    query = """
        SELECT image.name, image.tag_count, image.latest_tag, image.latest_digest,
            scans.external_id AS scan, image.risk_score, image.grade, image.critical, image.high,
            image.medium, image.low, image.last_scanned_at
        FROM images AS image
        LEFT JOIN scans
            ON scans.organization_id = image.organization_id AND scans.id = image.scan_id
        WHERE image.organization_id = %s
    """
    rows = conn.cursor(row_factory=dict_row).execute(query, [organization_id]).fetchall()
    return {row.pop("name"): row for row in rows}


def _list_texts(conn: Connection, table: str, text: str, organization_id: str | None) -> list[str]:
    owner = "id" if table == "organizations" else "organization_id"
    query = f"SELECT {text} FROM {table} AS t WHERE {owner} = coalesce(%s, {owner}) ORDER BY 1"
    return [row[0] for row in conn.execute(query, [organization_id])]  # pyright: ignore


def _list_vulnerabilities(counts: tuple[int, ...]) -> list[tuple[str, str]]:
    severities = [name for name, count in zip(Severity, counts, strict=False) for _ in range(count)]
    return [(f"CVE-2026-{number}", name) for number, name in enumerate(severities, 1000)]


def _write(**document: Any) -> bytes:
    return json.dumps(document).encode()
