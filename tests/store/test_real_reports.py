"""Recording reports that real scanners wrote, from the folder HARBORGUARD_REPORTS."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harborguard.ingest import ingest_report, make_scan
from harborguard.store.connection import Connection
from tests.support import oracle
from tests.support.reports import image_rows, stored_rows
from tests.support.tenants import Tenants

FOLDER = os.environ.get("HARBORGUARD_REPORTS")

pytestmark = pytest.mark.skipif(not FOLDER, reason="HARBORGUARD_REPORTS is not set")

TRIVY_IMAGES = "ghcr.io/aquasecurity/trivy-test-images"
STRIMZI = "quay.io/cloudservices/xjoin-kafka-connect-strimzi"
RECEIVED_AT = datetime(2026, 6, 1, tzinfo=UTC)
# For each report: the number of distinct findings, the counts by severity, the image and its tag.
REPORTS = {
    "trivy/alpine-310": (4, (0, 0, 4, 0), TRIVY_IMAGES, "alpine-310"),
    "trivy/busybox-with-lockfile": (2, (0, 1, 1, 0), TRIVY_IMAGES, "busybox-with-lockfile"),
    "trivy/centos-7": (3, (0, 0, 1, 2), TRIVY_IMAGES, "centos-7"),
    "trivy/debian-buster": (2, (1, 0, 0, 1), TRIVY_IMAGES, "debian-buster"),
    "trivy/distroless-base": (4, (0, 0, 2, 2), TRIVY_IMAGES, "distroless-base"),
    "trivy/scheme_2_many_vulns": (5, (1, 1, 3, 0), "docker.io/library/teamdojo", "latest"),
    "trivy/scheme_2_no_vuln": (0, (0, 0, 0, 0), "docker.io/library/trivy-unittest", "latest"),
    "trivy/legacy_many_vulns": (93, (0, 18, 9, 65), "docker.io/acme/legacy", "1"),
    "grype/check_all_fields": (5, (2, 2, 0, 0), "docker.io/library/vulnerable-image", "latest"),
    "grype/issue_9618": (35, (1, 18, 13, 2), STRIMZI, "latest"),
    "grype/no_vuln": (0, (0, 0, 0, 0), "docker.io/library/busybox", "latest"),
    "grype/same_cve_different_paths": (1, (1, 0, 0, 0), "docker.io/library/test-image", "latest"),
}


def ingest(conn: Connection, organization_id: str, name: str) -> oracle.Scan:
    """Record a report of the folder and return its scan for the oracle."""
    body, image = read(name)
    scan = make_scan(body, received_at=RECEIVED_AT, image=image)
    ingest_report(conn, organization_id, body, received_at=RECEIVED_AT, image=image)
    _, counts, _, tag = REPORTS[name]
    return oracle.Scan(
        identity=scan.external_id,
        finished_at=scan.finished_at,
        tag=tag,
        digest=scan.report.digest,
        built_at=scan.report.built_at,
        counts=counts,
    )


def read(name: str) -> tuple[bytes, str | None]:
    """Return a report, and the image to name if the report contains none."""
    body = Path(FOLDER or "", f"{name}.json").read_bytes()
    return body, "acme/legacy:1" if "legacy" in name else None


def test_all_reports_give_the_oracles_rows_and_replays_change_nothing(
    conn: Connection, tenants: Tenants
) -> None:
    acme = tenants.acme.organization_id
    images: dict[str, list[oracle.Scan]] = {}
    for name, (_, _, image, _) in REPORTS.items():
        images.setdefault(image, []).append(ingest(conn, acme, name))
    expected = {image: oracle.image_row(scans) for image, scans in images.items()}
    assert image_rows(conn, acme) == expected
    assert expected[TRIVY_IMAGES]["tag_count"] == 5
    before = stored_rows(conn)
    assert len(before["findings"]) == sum(distinct for distinct, *_ in REPORTS.values())

    for name in reversed(REPORTS):
        ingest(conn, acme, name)

    assert stored_rows(conn) == before


@pytest.mark.parametrize("name", REPORTS)
def test_report_gives_expected_row_and_replay_changes_nothing(
    conn: Connection, tenants: Tenants, name: str
) -> None:
    acme = tenants.acme.organization_id
    distinct, counts, image, tag = REPORTS[name]

    scan = ingest(conn, acme, name)

    row = image_rows(conn, acme)
    assert row == {image: oracle.image_row([scan])}
    assert tuple(row[image][name] for name in ("critical", "high", "medium", "low")) == counts
    assert (row[image]["latest_tag"], row[image]["tag_count"]) == (tag, 1)
    before = stored_rows(conn)
    assert len(before["findings"]) == distinct
    ingest(conn, acme, name)
    assert stored_rows(conn) == before


def test_every_report_of_the_folder_is_tested() -> None:
    folder = Path(FOLDER or "")
    files = {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.json")}
    assert files == set(REPORTS)
