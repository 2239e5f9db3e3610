"""A client that openapi-python-client generates from the document calls a running service."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from harborguard.ingest import ingest_report
from tests.support.reports import RECEIVED_AT, envelope
from tests.support.service import serving
from tests.support.tenants import Tenants
from tests.tools.openapi import COPY

PACKAGE = "harborguard_client"


@pytest.fixture(scope="module")
def client_package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Generate the client and make its package importable; a warning of the generator fails."""
    directory = tmp_path_factory.mktemp("client")
    configuration = directory / "configuration.json"
    # The hooks would format the generated code.
    configuration.write_text(json.dumps({"post_hooks": []}))
    command = [
        *(sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"),
        *("--path", COPY, "--config", configuration, "--meta", "none"),
        *("--output-path", directory / PACKAGE),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(directory))
    try:
        yield PACKAGE
    finally:
        sys.path.remove(str(directory))
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]


@pytest.fixture
def modules(client_package: str) -> Any:
    """Return a function that imports a module of the client."""
    return lambda name: importlib.import_module(f"{client_package}.{name}")


def test_generated_client_reads_every_page(
    tenants: Tenants, database_url: str, modules: Any
) -> None:
    images = {
        tenants.acme.add_image(f"ghcr.io/acme/{number:02}", number * 4 if number % 3 else None)
        for number in range(23)
    }
    tenants.globex.add_image("ghcr.io/globex/api", 31)
    list_images = modules("api.images.list_images")
    rows: list[Any] = []
    with (
        serving(DATABASE_URL=database_url, HARBORGUARD_THREADS="2") as service,
        make_client(modules, service.port, tenants.acme.key) as client,
    ):
        body = list_images.sync(client=client, limit=5, sort="name:asc")
        rows += body.data
        while body.meta.has_next:
            page = body.meta.page + 1
            body = list_images.sync(client=client, page=page, limit=5, sort="name:asc")
            rows += body.data
    assert (body.meta.page, body.meta.total_pages, body.meta.total) == (5, 5, 23)
    assert [row.name for row in rows] == [f"ghcr.io/acme/{number:02}" for number in range(23)]
    assert {row.id for row in rows} == images
    grade = modules("models").Grade
    assert [row.grade for row in rows[:2]] == [None, grade.A]
    assert rows[22].grade is grade.D


def test_generated_client_returns_typed_resources_and_errors(
    tenants: Tenants, database_url: str, modules: Any
) -> None:
    acme = tenants.acme
    recorded = ingest_report(
        acme.conn, acme.organization_id, envelope(counts=(1, 2)), received_at=RECEIVED_AT
    )
    get_image = modules("api.images.get_image")
    list_vulnerabilities = modules("api.images.list_vulnerabilities")
    models = modules("models")
    with (
        serving(DATABASE_URL=database_url, HARBORGUARD_THREADS="2") as service,
        make_client(modules, service.port, acme.key) as client,
        make_client(modules, service.port, "hg_ak_unknown") as unknown_client,
    ):
        image = get_image.sync(recorded.image_id, client=client).data
        findings = list_vulnerabilities.sync(
            recorded.image_id, client=client, fixable=True, severity="critical"
        )
        missing = get_image.sync_detailed("img-0000000000000000", client=client)
        rejected = get_image.sync(recorded.image_id, client=unknown_client)

    assert (image.id, image.last_scan.scanners) == (recorded.image_id, ["trivy"])
    assert [finding.severity for finding in findings.data] == [models.Severity.CRITICAL]
    assert missing.status_code == 404
    assert isinstance(missing.parsed, models.ErrorResponse)
    assert missing.parsed.error.code is models.ErrorBodyCode.NOT_FOUND
    assert missing.parsed.error.message == "Image not found."
    assert rejected.error.code is models.ErrorBodyCode.UNAUTHORIZED


def make_client(modules: Any, port: int, key: str) -> Any:
    """Return the generated client with an API key."""
    return modules("client").AuthenticatedClient(f"http://127.0.0.1:{port}", token=key)
