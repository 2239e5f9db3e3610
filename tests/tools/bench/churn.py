"""The space that an inventory needs, and how it grows when images are scanned again and again."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harborguard.config import Config
from harborguard.dev.embedded import running_server
from harborguard.ingest import ingest_report
from harborguard.store.connection import Connection, connect
from harborguard.store.migrations import migrate
from harborguard.store.organizations import create_organization
from tests.support.postgres import pool_connection
from tests.support.tenants import OPERATOR

IMAGES, FINDINGS, FIRST, LAST = 50, 120, 3, 100
SIZED_IMAGES, SIZED_FINDINGS = 2000, 10


@dataclass(frozen=True)
class Space:
    """`growth` is the size of the database after the last round over that after an early one.

    `row_bytes` are the bytes on disk of one image, tag, finding and scan, with their index entries.
    """

    growth: float
    row_bytes: dict[str, float]


def measure_space(directory: Path) -> Space:
    """Record the same images many times, without any VACUUM by hand, and measure the database."""
    with running_server(directory, shared_buffers="256MB") as server:
        config = Config(database_url=server.url)
        with connect(config) as conn:
            migrate(conn)
        with pool_connection(config) as conn:
            organization_id = create_organization(conn, "churn", actor=OPERATOR)
            sizes = {}
            for day in range(1, LAST + 1):
                _record(conn, organization_id, range(IMAGES), FINDINGS, day)
                sizes[day] = _size(conn)
            return Space(sizes[LAST] / sizes[FIRST], _measure_row_bytes(conn))


def _measure_row_bytes(conn: Connection) -> dict[str, float]:
    """Return the bytes per row, from the growth of the tables by one scan of many images."""
    organization_id = create_organization(conn, "sizes", actor=OPERATOR)
    tables = {
        "an image": (["images", "image_names", "image_changes"], SIZED_IMAGES),
        "a tag": (["tags"], SIZED_IMAGES),
        "a scan": (["scans"], SIZED_IMAGES),
        "the current scan of a tag": (["scan_findings", "finding_sets"], SIZED_IMAGES),
        "a finding of a current scan": (["findings"], SIZED_IMAGES * SIZED_FINDINGS),
    }
    before = {name: _table_size(conn, names) for name, (names, _) in tables.items()}
    _record(conn, organization_id, range(SIZED_IMAGES), SIZED_FINDINGS, day=1)
    return {
        name: (_table_size(conn, names) - before[name]) / rows
        for name, (names, rows) in tables.items()
    }


def _record(
    conn: Connection, organization_id: str, images: Iterable[int], findings: int, day: int
) -> None:
    now = datetime.now(UTC)
    for image in images:
        name, finished_at = f"ghcr.io/bench/service-{image}", now - timedelta(days=LAST - day)
        body = make_report(name, image, findings, finished_at)
        ingest_report(conn, organization_id, body, received_at=now)


def make_report(name: str, image: int, findings: int, finished_at: datetime) -> bytes:
    """Return a Trivy report of the tag `1` of an image; its number determines the findings."""
    vulnerabilities = [
        {
            "VulnerabilityID": f"CVE-2026-{image * 200 + number}",
            "PkgName": f"package-{number}",
            "InstalledVersion": f"1.{number}.0",
            "FixedVersion": f"1.{number}.1",
            "Severity": ("CRITICAL", "HIGH", "MEDIUM", "LOW")[number % 4],
            "Title": f"package-{number}: a title as long as those of most vulnerabilities",
            "PrimaryURL": f"https://avd.aquasec.com/nvd/cve-2026-{image * 200 + number}",
        }
        for number in range(findings)
    ]
    document = {
        "SchemaVersion": 2,
        "ArtifactName": f"{name}:1",
        "ArtifactType": "container_image",
        "CreatedAt": finished_at.isoformat(),
        "Metadata": {
            "RepoTags": [f"{name}:1"],
            "RepoDigests": [f"{name}@sha256:{image:064x}"],
        },
        "Results": [{"Target": name, "Class": "os-pkgs", "Vulnerabilities": vulnerabilities}],
    }
    return json.dumps(document).encode()


def _size(conn: Connection) -> int:
    [(size,)] = conn.execute("SELECT pg_database_size(current_database())").fetchall()
    return size


def _table_size(conn: Connection, tables: list[str]) -> int:
    query = "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(%s::text[]) AS name"
    [(size,)] = conn.execute(query, [tables]).fetchall()
    return int(size)
