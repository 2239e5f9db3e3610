"""GET /api/images/export: the rows of the list, limits, and errors before the first byte."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from harborguard.api.queries import IMAGE_SORTS
from harborguard.model import Role
from harborguard.store.connection import Connection
from tests.support.tenants import Tenants

HEADER = [
    *("id", "name", "registryId", "tagCount", "latestTag", "latestDigest", "riskScore", "grade"),
    *("critical", "high", "medium", "low", "lastScannedAt", "createdAt"),
]


@pytest.fixture
def images(tenants: Tenants) -> None:
    """Add three images of Acme, one of which was never scanned, and one of Globex."""
    acme = tenants.acme
    found = acme.add_image("ghcr.io/acme/b", 80, critical=1, latest_tag='a,"b"\n', tag_count=2)
    acme.add_findings(found, [("CVE-1", "openssl", None)])
    acme.add_image("ghcr.io/acme/a", 10, low=3, latest_digest="sha256:1\\n")
    acme.add_tag(acme.add_image("quay.io/acme/c", latest_tag="\\.\x01\x02\\N\u2028é"), "1")
    tenants.globex.add_image("ghcr.io/globex/x", 10)


def export(client: FlaskClient, key: str, **parameters: str) -> bytes:
    response = client.get(f"/api/images/export?{urlencode(parameters)}", headers={"X-API-Key": key})
    assert response.status_code == 200, response.data
    return response.data


def listed(client: FlaskClient, key: str, **parameters: str) -> list[dict[str, Any]]:
    query = urlencode({**parameters, "limit": "200"})
    return client.get(f"/api/images?{query}", headers={"X-API-Key": key}).json["data"]


def as_cells(row: dict[str, Any]) -> list[str]:
    """Return the CSV cells of a row of the list."""
    flat = {**row, **row["vulnerabilities"]}
    return ["" if flat[name] is None else str(flat[name]) for name in HEADER]


@pytest.mark.parametrize(
    "query",
    [
        {},
        *({"sort": order} for order in IMAGE_SORTS),
        {"grade": "A,C"},
        {"registry": "GHCR.io", "riskScore": "10"},
        {"search": "ACME/", "sort": "name:desc"},
        {"cveId": "cve-1"},
        {"package": "openssl", "fixable": "false"},
        {"fixable": "false"},
        {"tag": "1"},
        {"scanned": "never"},
        {"scanned": "stale", "staleDays": "5"},
        {"severity": "critical,low"},
        {"createdAfter": "2025-01-01", "scannedBefore": "2026-05-01"},
        {"search": "no such name"},
        {"search": "'); \\' --", "package": "%s"},
    ],
    ids=urlencode,
)
@pytest.mark.usefixtures("images")
def test_export_has_the_rows_of_the_list_in_its_order(
    client: FlaskClient, tenants: Tenants, query: dict[str, str]
) -> None:
    key = tenants.acme.key
    rows = listed(client, key, **query)
    lines = export(client, key, **query, format="ndjson").splitlines(keepends=True)
    assert [json.loads(line) for line in lines] == rows
    assert all(line.endswith(b"}\n") for line in lines)
    text = export(client, key, **query).decode()
    assert list(csv.reader(io.StringIO(text))) == [HEADER, *map(as_cells, rows)]


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_cell_that_a_spreadsheet_would_run_begins_with_an_apostrophe(
    client: FlaskClient, tenants: Tenants, first: str
) -> None:
    text = f"{first}cmd|' /C calc'!A0"
    tenants.acme.add_image(text, latest_tag=text, latest_digest=text)
    output = export(client, tenants.acme.key).decode()
    [_, row] = csv.reader(io.StringIO(output, newline=""))
    cells = dict(zip(HEADER, row, strict=True))
    assert [cells[name] for name in ("name", "latestTag", "latestDigest")] == [f"'{text}"] * 3
    [line] = export(client, tenants.acme.key, format="ndjson").splitlines()
    assert [json.loads(line)[name] for name in ("name", "latestTag")] == [text] * 2


@pytest.mark.usefixtures("images")
def test_response_names_the_file_and_its_type(client: FlaskClient, tenants: Tenants) -> None:
    for export_format, media_type in [("csv", "text/csv"), ("ndjson", "application/x-ndjson")]:
        path = f"/api/images/export?format={export_format}"
        for method in ("GET", "HEAD"):
            response = client.open(path, method=method, headers=tenants.acme.headers)
            assert response.status_code == 200
            assert response.mimetype == media_type
            disposition = f'attachment; filename="images.{export_format}"'
            assert response.headers["Content-Disposition"] == disposition
            assert "ETag" not in response.headers
            assert bool(response.data) == (method == "GET")


@pytest.mark.parametrize("export_format", ["csv", "ndjson"])
def test_export_of_an_empty_inventory_has_no_rows(
    client: FlaskClient, tenants: Tenants, export_format: str
) -> None:
    expected = ",".join(HEADER).encode() + b"\n" if export_format == "csv" else b""
    assert export(client, tenants.acme.key, format=export_format) == expected


@pytest.mark.usefixtures("images")
def test_key_limited_to_a_registry_exports_its_images_alone(
    client: FlaskClient, tenants: Tenants
) -> None:
    key = tenants.acme.add_key(registry_id=tenants.acme.add_registry("quay.io"))
    lines = export(client, key, format="ndjson").splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["quay.io/acme/c"]
    assert export(client, key, format="ndjson", registry="ghcr.io") == b""


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.usefixtures("images")
def test_every_role_exports(client: FlaskClient, tenants: Tenants, role: Role) -> None:
    lines = export(client, tenants.acme.add_key(role), format="ndjson").splitlines()
    assert len(lines) == 3


def test_export_without_a_credential_returns_401(client: FlaskClient, tenants: Tenants) -> None:
    assert client.get("/api/images/export").status_code == 401


@pytest.mark.parametrize(
    ("query", "path", "message"),
    [
        ("format=xml", "format", "must be one of csv, ndjson"),
        ("riskScore=x", "riskScore", "must be an integer from 0 to 100"),
        ("format=csv&format=csv", "format", "given more than once; separate values with a comma"),
    ],
)
def test_invalid_query_returns_400(
    client: FlaskClient, tenants: Tenants, query: str, path: str, message: str
) -> None:
    response = client.get(f"/api/images/export?{query}", headers=tenants.acme.headers)
    assert response.status_code == 400
    assert response.json == {
        "error": {
            "code": "BAD_REQUEST",
            "message": "The query is not valid.",
            "issues": [{"path": path, "message": message}],
        }
    }


def test_pages_and_unknown_parameters_are_ignored(client: FlaskClient, tenants: Tenants) -> None:
    path = "/api/images/export?page=2&limit=1&sort=x"
    response = client.get(path, headers=tenants.acme.headers)
    assert response.headers["X-Ignored-Parameters"] == "limit, page, sort"


@contextmanager
def held_lock(conn: Connection, name: str) -> Iterator[None]:
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])
        yield


@pytest.mark.usefixtures("images")
def test_export_beside_another_of_the_credential_or_of_the_service_returns_429(
    client: FlaskClient, tenants: Tenants, conn: Connection
) -> None:
    own = "One export at a time is allowed for a credential."
    busy = "The maximum number of exports is running; try again later."
    for lock, message in [(f"export {tenants.acme.key_id}", own), ("export slot 1", busy)]:
        with held_lock(conn, lock):
            response = client.get("/api/images/export", headers=tenants.acme.headers)
            assert response.status_code == 429
            assert response.headers["Retry-After"] == "5"
            assert response.json == {"error": {"code": "RATE_LIMITED", "message": message}}
        assert export(client, tenants.acme.key)
    with held_lock(conn, f"export {tenants.acme.key_id}"):
        assert export(client, tenants.globex.key)


@pytest.mark.usefixtures("images")
def test_export_that_takes_too_long_before_its_first_row_returns_504(
    app: Flask, tenants: Tenants, conn: Connection
) -> None:
    other = create_app(replace(app.extensions["harborguard"].config, export_timeout_ms=100))
    with other.extensions["harborguard"].pool, conn.transaction():
        conn.execute("LOCK images IN ACCESS EXCLUSIVE MODE")
        response = other.test_client().get("/api/images/export", headers=tenants.acme.headers)
    assert response.status_code == 504
    message = "The database took too long to respond."
    assert response.json == {"error": {"code": "TIMEOUT", "message": message}}
