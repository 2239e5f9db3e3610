"""Recording scans: the stored rows, replays, conflicts and failures."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import errors as sqlstate

from harborguard.config import Config
from harborguard.errors import Conflict, InvalidReference, InvalidReport, StoreUnavailable
from harborguard.ingest import make_scan
from harborguard.listing import ImageSummary
from harborguard.model import Finding, Scope
from harborguard.reports import parse_report
from harborguard.reports.decoding import MAX_IDENTIFIER
from harborguard.reports.findings import MAX_PACKAGE, MAX_VERSION
from harborguard.store.connection import Connection, connect
from harborguard.store.errors import translate_error
from harborguard.store.images.list import find_inventory_version
from harborguard.store.registries import ensure_registry
from harborguard.store.scans import record_scan
from tests.support import reports
from tests.support.recording import DAY, NAME, TABLES, ingest, list_first_page, row_of, rows_of
from tests.support.reports import (
    API,
    RECEIVED_AT,
    SCANNED_AT,
    image_rows,
    manifest,
    random_text,
    stored_rows,
)
from tests.support.tenants import Tenants


def test_recorded_scan_is_listed(conn: Connection, acme: str) -> None:
    body = reports.envelope(API, (0, 4, 19, 27), digest=f"acme/api@{manifest('a')}", scan_id="s-1")

    recorded = ingest(conn, acme, body)

    assert recorded.is_new
    [registry] = rows_of(conn, "registries")
    [created_at] = [row["created_at"] for row in rows_of(conn, "images")]
    assert list_first_page(conn, acme) == [
        ImageSummary(
            id=recorded.image_id,
            name=NAME,
            registry_id=registry["id"],
            tag_count=1,
            latest_tag="1.4.7",
            latest_digest=manifest("a"),
            risk_score=31,
            grade="B",
            critical=0,
            high=4,
            medium=19,
            low=27,
            last_scanned_at="2026-04-26T14:22:11.000Z",
            created_at=created_at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{created_at:%f}"[:3] + "Z",
        )
    ]


def test_recording_fills_every_column(conn: Connection, acme: str) -> None:
    built_at = SCANNED_AT - 9 * DAY
    body = reports.trivy(API, (0, 1), digest=manifest("a"), built_at=built_at)
    scan = make_scan(body, received_at=RECEIVED_AT)

    recorded = ingest(conn, acme, body)

    now = conn.execute("SELECT now()").fetchone()
    assert now
    [registry], [image], [tag], [row], [finding_set], [finding], [kept] = (
        rows_of(conn, table) for table in TABLES
    )
    assert [tag.pop("id")[:4], registry["id"][:4], image["id"][:4], row["id"][:5]] == [
        "tag-",
        "reg-",
        "img-",
        "scan-",
    ]
    assert [
        now[0] - times > timedelta()
        for times in (registry.pop("created_at"), image.pop("created_at"), row.pop("recorded_at"))
    ] == [True] * 3
    assert registry.pop("forgotten_version") == 0
    assert registry.pop("version") == find_inventory_version(conn, Scope(acme, registry["id"]))
    assert image.pop("set_id") == finding_set["id"]
    assert registry == {
        "organization_id": acme,
        "id": registry["id"],
        "host": "ghcr.io",
        "name": "ghcr.io",
        "provider": "generic",
        "last_synced_at": None,
    }
    summary = {"risk_score": 25, "grade": "B", "critical": 0, "high": 1, "medium": 0, "low": 0}
    assert image == {
        "organization_id": acme,
        "id": recorded.image_id,
        "registry_id": registry["id"],
        "name": NAME,
        "tag_count": 1,
        "latest_tag": "1.4.7",
        "latest_digest": manifest("a"),
        "scan_id": recorded.scan_id,
        **summary,
        "last_scanned_at": SCANNED_AT,
    }
    assert tag == {
        "organization_id": acme,
        "image_id": recorded.image_id,
        "name": "1.4.7",
        "digest": manifest("a"),
        "is_confirmed": True,
        "is_synced": False,
        "built_at": built_at,
        "first_observed_at": SCANNED_AT,
        "last_observed_at": SCANNED_AT,
    }
    assert row == {
        "organization_id": acme,
        "id": recorded.scan_id,
        "image_id": recorded.image_id,
        "external_id": scan.external_id,
        "content_sha256": scan.content_sha256,
        "tag": "1.4.7",
        "digest": manifest("a"),
        "scanners": ["trivy"],
        "status": "SUCCESS",
        "is_finished": True,
        "started_at": None,
        "finished_at": SCANNED_AT,
        **summary,
    }
    assert len(finding_set.pop("sha256")) == 32
    assert finding_set == {
        "organization_id": acme,
        "id": kept["set_id"],
        "image_id": recorded.image_id,
    }
    assert kept == {
        "organization_id": acme,
        "scan_id": recorded.scan_id,
        "image_id": recorded.image_id,
        "tag_key": "1.4.7",
        "set_id": kept["set_id"],
    }
    assert finding == {
        "organization_id": acme,
        "set_id": kept["set_id"],
        "position": 0,
        "vulnerability_id": "CVE-2026-1000",
        "package": "openssl",
        "installed_version": "",
        "fixed_version": None,
        "severity": "HIGH",
        "cvss_score": None,
        "epss": None,
        "kev": None,
        "title": None,
        "url": None,
        "sources": ["trivy"],
    }


def test_findings_with_special_characters_are_stored_unchanged(conn: Connection, acme: str) -> None:
    hostile = "\\N\t\r\n{}\"',\\ 😀"
    scan = make_scan(reports.envelope(counts=(1,)), received_at=RECEIVED_AT)
    findings = (
        Finding(
            hostile, hostile, hostile, scan.report.findings[0].severity, hostile, 9.8, title=hostile
        ),
        replace(scan.report.findings[0], url=hostile, sources=(hostile, "", "{NULL}")),
    )
    record_scan(conn, acme, replace(scan, report=replace(scan.report, findings=findings)))

    columns = "vulnerability_id, package, installed_version, fixed_version, title, url, sources"
    actual = conn.execute(f"SELECT {columns} FROM findings ORDER BY position").fetchall()
    assert actual == [
        (
            f.vulnerability_id,
            f.package,
            f.installed_version,
            f.fixed_version,
            f.title,
            f.url,
            list(f.sources),
        )
        for f in findings
    ]


# replays


@pytest.mark.parametrize(
    "body",
    [
        reports.envelope(counts=(1, 2, 3, 4, 5), digest=manifest("a")),
        reports.envelope(status="FAILED"),
        reports.trivy(counts=(0, 4), built_at=SCANNED_AT - DAY),
        reports.trivy(f"{NAME}@{manifest('a')}"),
        reports.grype(),
    ],
)
def test_replay_changes_nothing(conn: Connection, acme: str, body: bytes) -> None:
    first = ingest(conn, acme, body)
    before = stored_rows(conn)

    again = ingest(conn, acme, body, received_at=RECEIVED_AT + DAY)

    assert again == replace(first, is_new=False)
    assert stored_rows(conn) == before


@pytest.mark.parametrize("make", [reports.trivy, reports.grype])
def test_former_results_without_time_are_a_new_scan_after_an_hour(
    conn: Connection, acme: str, make: Any
) -> None:
    """A build is replaced and then deployed again; old scanners write no time."""
    vulnerable = make(counts=(1,), finished_at=None, digest=manifest("a"))
    ingest(conn, acme, vulnerable)
    ingest(conn, acme, vulnerable, received_at=RECEIVED_AT + timedelta(minutes=59))
    assert len(rows_of(conn, "scans")) == 1
    clean = make(finished_at=None, digest=manifest("b"))
    ingest(conn, acme, clean, received_at=RECEIVED_AT + DAY)
    assert (row_of(conn, acme)["grade"], row_of(conn, acme)["latest_digest"]) == (
        "A",
        manifest("b"),
    )
    assert ingest(conn, acme, vulnerable, received_at=RECEIVED_AT + 2 * DAY).is_new
    row = row_of(conn, acme)
    assert (row["grade"], row["latest_digest"], row["last_scanned_at"]) == (
        "D",
        manifest("a"),
        RECEIVED_AT + 2 * DAY,
    )


def test_replay_of_older_scan_changes_nothing(conn: Connection, acme: str) -> None:
    older = reports.envelope(counts=(1,), scan_id="1", finished_at=SCANNED_AT - DAY)
    first = ingest(conn, acme, older)
    ingest(conn, acme, reports.envelope(scan_id="2"))
    before = stored_rows(conn)
    assert ingest(conn, acme, older) == replace(first, is_new=False)
    assert stored_rows(conn) == before


@pytest.mark.parametrize(
    ("body", "image"),
    [
        (reports.envelope(counts=(1,), scan_id="7"), None),
        (reports.envelope(scan_id="7") + b" ", None),
        (reports.envelope(scan_id="7"), "quay.io/new/image:1"),
        (reports.envelope(scan_id="7"), "ghcr.io/acme/api:other"),
        (reports.envelope(scan_id="7", status="FAILED"), None),
    ],
    ids=["findings", "bytes", "image", "tag", "status"],
)
def test_scan_id_with_other_content_is_rejected_as_conflict(
    conn: Connection, acme: str, body: bytes, image: str | None
) -> None:
    ingest(conn, acme, reports.envelope(scan_id="7"))
    before = stored_rows(conn)
    with pytest.raises(Conflict, match="Scan 7 is already recorded with other content"):
        ingest(conn, acme, body, image=image)
    assert stored_rows(conn) == before


def test_report_recorded_for_several_images_stores_a_scan_for_each(
    conn: Connection, acme: str
) -> None:
    body = reports.trivy(counts=(0, 1))
    ids = {ingest(conn, acme, body, image=f"nginx:{tag}").scan_id for tag in ("1", "2", "None")}
    ids.add(ingest(conn, acme, body, image="caddy").scan_id)
    assert len(ids) == 4
    assert row_of(conn, acme, "docker.io/library/nginx")["tag_count"] == 3


# images and registries


def test_images_are_identified_by_registry_and_path(conn: Connection, acme: str) -> None:
    """Names with one digest stay separate; spellings of one name share a row."""
    spellings = {
        "docker.io/library/nginx": [
            "nginx:1",
            "docker.io/nginx:2",
            "index.docker.io/library/nginx",
        ],
        "docker.io/acme/api": ["acme/api"],
        "ghcr.io/acme/api": ["ghcr.io/acme/api", "https://GHCR.IO/acme/api:2"],
        "ghcr.io/acme/api/worker": ["ghcr.io/acme/api/worker"],
        "localhost/acme/api": ["localhost/acme/api"],
        "localhost:5000/acme/api": ["localhost:5000/acme/api:5000"],
        "localhost:5001/acme/api": [f"localhost:5001/acme/api@{manifest('a')}"],
    }
    for number, texts in enumerate(spellings.values()):
        for copy, text in enumerate(texts):
            body = reports.envelope(text, scan_id=f"{number}-{copy}", digest=manifest("a"))
            ingest(conn, acme, body)

    assert set(image_rows(conn, acme)) == set(spellings)
    query = """
        SELECT images.name, registries.host FROM images JOIN registries ON registries.id = registry_id
    """
    assert dict(conn.execute(query).fetchall()) == {
        name: name.partition("/")[0] for name in spellings
    }
    assert {row["host"] for row in rows_of(conn, "registries")} == {
        "docker.io",
        "ghcr.io",
        "localhost",
        "localhost:5000",
        "localhost:5001",
    }


def test_existing_registry_of_the_organization_is_used(conn: Connection, tenants: Tenants) -> None:
    mine = tenants.acme.add_registry("ghcr.io", "Our images")
    theirs = tenants.globex.add_registry("ghcr.io")
    query = "SELECT id, host, name, provider FROM registries ORDER BY id"
    before = conn.execute(query).fetchall()
    ingest(conn, tenants.acme.organization_id, reports.envelope())
    assert [row["registry_id"] for row in rows_of(conn, "images")] == [mine]
    assert conn.execute(query).fetchall() == before
    assert ensure_registry(conn, tenants.acme.organization_id, "ghcr.io") == mine != theirs


def test_reference_of_the_caller_overrides_the_report(conn: Connection, acme: str) -> None:
    ingest(conn, acme, reports.trivy("ghcr.io/acme/api:1"), image="quay.io/acme/tool:7")
    assert list(image_rows(conn, acme)) == ["quay.io/acme/tool"]
    assert row_of(conn, acme, "quay.io/acme/tool")["latest_tag"] == "7"
    assert [row["host"] for row in rows_of(conn, "registries")] == ["quay.io"]


@pytest.mark.parametrize(
    ("body", "image", "error"),
    [
        (reports.envelope("Acme/API"), None, InvalidReport),
        (reports.envelope(), "Acme/API", InvalidReference),
        (reports.envelope(finished_at=RECEIVED_AT + timedelta(minutes=6)), None, InvalidReport),
    ],
    ids=["malformed in the report", "malformed by the caller", "future"],
)
def test_rejected_report_stores_nothing(
    conn: Connection, acme: str, body: bytes, image: str | None, error: type[Exception]
) -> None:
    before = stored_rows(conn)
    with pytest.raises(error):
        ingest(conn, acme, body, image=image)
    assert stored_rows(conn) == before


def test_finish_time_five_minutes_ahead_is_accepted(conn: Connection, acme: str) -> None:
    ahead = RECEIVED_AT + timedelta(minutes=5)
    ingest(conn, acme, reports.envelope(finished_at=ahead))
    assert row_of(conn, acme)["last_scanned_at"] == ahead


@pytest.mark.parametrize("make", [reports.trivy, reports.grype])
def test_report_without_time_is_finished_when_received(
    conn: Connection, acme: str, make: Any
) -> None:
    ingest(conn, acme, make(finished_at=None))
    assert row_of(conn, acme)["last_scanned_at"] == RECEIVED_AT
    assert [row["finished_at"] for row in rows_of(conn, "scans")] == [RECEIVED_AT]
    assert [row["last_observed_at"] for row in rows_of(conn, "tags")] == [RECEIVED_AT]


# atomicity


FAULTS = [
    *[f"BEFORE INSERT ON {table}" for table in TABLES],
    "BEFORE UPDATE ON images",
    "AFTER UPDATE ON images",
]


@pytest.mark.parametrize("moment", FAULTS)
def test_database_failure_stores_nothing(conn: Connection, acme: str, moment: str) -> None:
    ingest(conn, acme, reports.envelope(scan_id="before"))
    body = reports.envelope("quay.io/acme/api:2", (1, 2), scan_id="new", digest=manifest("a"))
    before = stored_rows(conn)
    conn.execute(
        """
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'out of order' USING ERRCODE = 'disk_full'; END $$
        """
    )
    conn.execute(f"CREATE TRIGGER fail {moment} FOR EACH ROW EXECUTE FUNCTION fail()")  # pyright: ignore
    try:
        with pytest.raises(sqlstate.DiskFull, match="out of order") as caught:
            ingest(conn, acme, body)
    finally:
        conn.execute("DROP FUNCTION fail CASCADE")

    assert isinstance(translate_error(caught.value), StoreUnavailable)
    assert stored_rows(conn) == before
    assert ingest(conn, acme, body).is_new


@pytest.mark.parametrize(
    "change",
    [
        {"cvss_score": 1e-50},
        {"epss": "x"},
        {"package": "a\0"},
        {"package": random_text(1000)},
        {"vulnerability_id": random_text(1000)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_value_that_the_database_cannot_store_rejects_the_report(
    conn: Connection, acme: str, change: dict[str, Any]
) -> None:
    """Parsing prevents these values; the report must not end a command if it misses one."""
    scan = make_scan(reports.envelope(counts=(1, 1)), received_at=RECEIVED_AT)
    first, second = scan.report.findings
    report = replace(scan.report, findings=(first, replace(second, **change)))
    before = stored_rows(conn)
    with pytest.raises(InvalidReport, match="has a value that cannot be stored"):
        record_scan(conn, acme, replace(scan, report=report))
    assert stored_rows(conn) == before
    assert ingest(conn, acme, reports.envelope(counts=(1, 1))).is_new


@pytest.mark.parametrize("make", [reports.trivy, reports.grype, reports.envelope])
def test_longest_texts_fit_into_the_indexes(
    conn: Connection, acme: str, make: Callable[..., bytes]
) -> None:
    body = make(counts=(0, 1)).decode()
    finding = parse_report(body.encode()).findings[0]
    for name, length in [
        (finding.vulnerability_id, MAX_IDENTIFIER),
        (finding.package, MAX_PACKAGE + 1),
        (finding.installed_version, MAX_VERSION + 1),
    ]:
        assert f'"{name}"' in body
        body = body.replace(f'"{name}"', f'"{random_text(length)}"')
    assert ingest(conn, acme, body.encode()).is_new
    [row] = conn.execute("SELECT length(vulnerability_id), length(package) FROM findings")
    assert row == (MAX_IDENTIFIER, MAX_PACKAGE)


NUMBERS = ["1e-50", "5e-324", "1e-39", "-0.0", "-1e-300", "9.9999999999999999999", "1e308"]
TIMES = [
    *("0001-01-01T00:00:00Z", "0002-01-01T00:00:00+00:30", "1969-12-31T23:59:59.999999999Z"),
    *("2026-01-01T00:00:00.123456789-12:00", "2026-04-26T14:22:11-23:59"),
]


@pytest.mark.parametrize("number", NUMBERS)
def test_extreme_numbers_of_findings_are_stored(conn: Connection, acme: str, number: str) -> None:
    field = f'"severity": "LOW", "epss": {number}, "cvssScore": {number}, "x": '
    envelope = reports.envelope(counts=(0, 0, 0, 1)).replace(
        b'"severity": "LOW", "cvssScore": ', field.encode()
    )
    trivy = reports.trivy(counts=(0, 0, 0, 1)).replace(
        b'"Severity"', f'"CVSS": {{"nvd": {{"V3Score": {number}}}}}, "Severity"'.encode()
    )
    grype = reports.grype(counts=(0, 0, 0, 1)).replace(
        b'"severity"',
        f'"cvss": [{{"version": "3.1", "metrics": {{"baseScore": {number}}}}}],'
        f'"epss": [{{"epss": {number}}}], "severity"'.encode(),
    )
    for body in (envelope, trivy, grype):
        assert number.encode() in body
        ingest(conn, acme, body)
    for row in rows_of(conn, "findings"):
        assert str(row["cvss_score"]) in {"0.0", "10.0", "None"}
        assert row["epss"] is None or 0 <= row["epss"] <= 1


@pytest.mark.parametrize("time", TIMES)
def test_extreme_times_of_reports_are_stored(conn: Connection, acme: str, time: str) -> None:
    bodies = [
        reports.envelope(scan_id="1").replace(
            b'"finishedAt"', f'"startedAt": "{time}", "finishedAt"'.encode()
        ),
        *(
            re.sub(
                rb'"(finishedAt|CreatedAt|timestamp|created)": (null|"[^"]*")',
                rf'"\1": "{time}"'.encode(),
                body,
            )
            for body in (reports.trivy(), reports.grype())
        ),
    ]
    for body in bodies:
        assert time.encode() in body
        assert ingest(conn, acme, body).is_new
    assert row_of(conn, acme)["last_scanned_at"] is not None


def test_finding_that_violates_a_constraint_stores_nothing(conn: Connection, acme: str) -> None:
    scan = make_scan(reports.envelope(counts=(1, 1, 1)), received_at=RECEIVED_AT)
    *valid, last = scan.report.findings
    invalid = replace(scan.report, findings=(*valid, replace(last, cvss_score=11.0)))
    before = stored_rows(conn)
    with pytest.raises(sqlstate.CheckViolation):
        record_scan(conn, acme, replace(scan, report=invalid))
    assert stored_rows(conn) == before
    assert record_scan(conn, acme, scan).is_new


def terminate_midway(
    config: Config, conn: Connection, findings: Sequence[Finding]
) -> Iterator[Finding]:
    """Yield the findings; terminate the server process of the connection at the middle one."""
    for position, finding in enumerate(findings):
        if position == len(findings) // 2:
            with connect(config) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [conn.info.backend_pid])
        yield finding


def test_terminated_connection_stores_nothing(conn: Connection, config: Config, acme: str) -> None:
    scan = make_scan(reports.envelope(counts=(50, 50)), received_at=RECEIVED_AT)
    before = stored_rows(conn)
    with connect(config) as terminated:
        findings: Any = terminate_midway(config, terminated, scan.report.findings)
        interrupted = replace(scan, report=replace(scan.report, findings=findings))
        with pytest.raises(psycopg.OperationalError) as caught:
            record_scan(terminated, acme, interrupted)

    assert isinstance(translate_error(caught.value), StoreUnavailable)
    assert stored_rows(conn) == before
    assert record_scan(conn, acme, scan).is_new
    assert len(rows_of(conn, "findings")) == 100
