"""schemathesis runs all of its checks against a running service for half a minute."""

import subprocess
import sys
from pathlib import Path

import pytest

from harborguard.ingest import ingest_report
from harborguard.model import Role
from tests.support.reports import RECEIVED_AT, envelope
from tests.support.service import serving
from tests.support.tenants import Tenants

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.timeout(180)
def test_service_conforms_to_the_document(
    tenants: Tenants, database_url: str, tmp_path: Path
) -> None:
    """There is no 5xx, no undocumented status and no body that is invalid by its schema."""
    acme = tenants.acme
    body = envelope(counts=(1, 2, 3))
    ingest_report(acme.conn, acme.organization_id, body, received_at=RECEIVED_AT)
    with serving(
        DATABASE_URL=database_url,
        HARBORGUARD_THREADS="4",
        HARBORGUARD_NEW_SCANS_PER_MINUTE="100000",
        HARBORGUARD_REJECTIONS_PER_MINUTE="100000",
    ) as service:
        command = [
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", CONFIGURATION),
            *("run", f"http://127.0.0.1:{service.port}/api/openapi.json"),
            *("--header", f"X-API-Key: {acme.add_key(Role.OWNER)}"),
            *("--checks", "all", "--max-time", "30", "--seed", "1", "--no-color"),
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tested: " in done.stdout
    print(done.stdout[done.stdout.index("= SUMMARY") :])
