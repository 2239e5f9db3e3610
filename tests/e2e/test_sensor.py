"""Uploading reports with curl, as a sensor does, to a running service."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harborguard.ingest import make_scan
from harborguard.model import Role
from harborguard.store.connection import Connection
from tests.support import oracle
from tests.support.reports import RECEIVED_AT, envelope, image_rows
from tests.support.service import Service, serving
from tests.support.tenants import Tenants

SCRIPT = Path(__file__).with_name("sensor.sh")
FOLDER = os.environ.get("HARBORGUARD_REPORTS")
REPORTS = sorted(Path(FOLDER).rglob("*.json")) if FOLDER else []

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is missing")


@pytest.fixture
def service(database_url: str, conn: Connection) -> Iterator[Service]:
    with serving(DATABASE_URL=database_url) as service:
        yield service


def post(service: Service, key: str, path: Path, *image: str) -> tuple[int, Any]:
    """Upload a report with sensor.sh; return the response's status and body."""
    command = [SCRIPT, f"http://127.0.0.1:{service.port}", path, *image]
    environment = {"PATH": os.environ["PATH"], "HARBORGUARD_KEY": key}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert result.returncode == 0, result.stderr
    body, status = result.stdout.strip().rsplit("\n", 1)
    return int(status), json.loads(body)


def row(service: Service, tenants: Tenants) -> dict[str, Any]:
    """Return the only row of the image list."""
    [image] = service.request("/api/images", tenants.acme.headers).json["data"]
    return image


def test_uploads_update_the_listed_row_and_replays_and_conflicts_do_not(
    service: Service, tenants: Tenants, tmp_path: Path
) -> None:
    key = tenants.acme.add_key(Role.CI)
    report = tmp_path / "report.json"
    report.write_bytes(envelope(counts=(0, 4, 19, 27), scan_id="1"))

    status, first = post(service, key, report)

    assert (status, first["success"]) == (201, True)
    assert row(service, tenants)["id"] == first["imageId"]
    assert (row(service, tenants)["riskScore"], row(service, tenants)["grade"]) == (31, "B")
    assert post(service, key, report) == (200, first)
    report.write_bytes(envelope(counts=(1,), scan_id="1"))
    status, conflict = post(service, key, report)
    assert (status, conflict["scanId"]) == (409, first["scanId"])
    assert row(service, tenants)["grade"] == "B"
    report.write_bytes(envelope(counts=(1,), scan_id="2"))
    status, second = post(service, key, report)
    assert (status, second["imageId"]) == (201, first["imageId"])
    assert second["scanId"] != first["scanId"]
    assert (row(service, tenants)["riskScore"], row(service, tenants)["grade"]) == (75, "D")
    report.write_bytes(b"{}")
    status, rejected = post(service, key, report)
    assert (status, rejected["error"]["code"]) == (400, "VALIDATION_ERROR")


@pytest.mark.skipif(not FOLDER, reason="HARBORGUARD_REPORTS is not set")
def test_real_reports_uploaded_twice_give_the_oracles_rows(
    service: Service, tenants: Tenants, conn: Connection
) -> None:
    key = tenants.acme.add_key(Role.CI)
    scans: dict[str, list[oracle.Scan]] = {}
    for path in REPORTS:
        image = "acme/legacy:1" if "legacy" in path.name else None
        scan = make_scan(path.read_bytes(), received_at=RECEIVED_AT, image=image)
        status, body = post(service, key, path, *([image] if image else []))
        assert status == 201, (path, body)
        assert post(service, key, path, *([image] if image else [])) == (200, body)
        counts = (scan.counts.critical, scan.counts.high, scan.counts.medium, scan.counts.low)
        reference = scan.report.reference
        scans.setdefault(reference.name, []).append(
            oracle.Scan(
                scan.external_id,
                scan.finished_at,
                tag=reference.tag,
                digest=scan.report.digest,
                built_at=scan.report.built_at,
                counts=counts,
            )
        )
    rows = image_rows(conn, tenants.acme.organization_id)
    expected = {name: oracle.image_row(each) for name, each in scans.items()}
    # A report without a time was finished when the service received it.
    without_time = {
        name for name, each in scans.items() for scan in each if scan.finished_at == RECEIVED_AT
    }
    for name in without_time:
        for column in ("scan", "last_scanned_at"):  # the external id has the hour of receipt
            rows[name].pop(column)
            expected[name].pop(column)
    assert rows == expected
    assert len(REPORTS) > 0
