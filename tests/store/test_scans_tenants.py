"""Recording scans of two organizations: neither affects the other."""

from dataclasses import replace

import pytest
from psycopg import errors as sqlstate

from harborguard.config import Config
from harborguard.store.connection import Connection, connect
from harborguard.store.counters import find_incorrect_counters
from harborguard.store.images.refresh import refresh_images
from tests.support import oracle, reports
from tests.support.recording import DAY, NAME, body_of, ingest, row_of
from tests.support.reports import API, SCANNED_AT, image_rows, manifest, stored_rows
from tests.support.tenants import Tenants


def test_scans_of_one_organization_do_not_change_another(
    conn: Connection, acme: str, globex: str
) -> None:
    bodies = [
        reports.envelope(counts=(1,), scan_id="same"),
        reports.envelope(counts=(0, 1), scan_id="failed", status="FAILED"),
        reports.trivy(API, (0, 1), finished_at=SCANNED_AT + DAY),
        reports.grype("nginx"),
    ]
    for body in bodies:
        ingest(conn, globex, body)
    before = stored_rows(conn, globex)

    recorded = [ingest(conn, acme, body) for body in bodies]
    other = ingest(conn, acme, reports.trivy(API, (1,), finished_at=SCANNED_AT + 9 * DAY))

    assert [scan.is_new for scan in [*recorded, other]] == [True] * 5
    assert stored_rows(conn, globex) == before
    assert row_of(conn, acme)["risk_score"] == 75
    assert row_of(conn, globex)["risk_score"] == 25
    assert [ingest(conn, acme, body) for body in bodies] == [
        replace(scan, is_new=False) for scan in recorded
    ]
    # The same scan id in another organization is neither a replay nor a conflict.
    ingest(conn, globex, reports.envelope(counts=(0, 0, 9), scan_id="only-theirs"))
    ingest(conn, acme, reports.envelope(counts=(0, 9, 0), scan_id="only-theirs"))


def test_equal_image_ids_in_two_organizations_are_two_images(
    conn: Connection, tenants: Tenants
) -> None:
    """Ids are unique only within an organization."""
    first = oracle.Scan("1", SCANNED_AT, "1", manifest("a"), counts=(0, 1, 0, 0))
    scans = [
        (
            tenants.acme,
            [first, replace(first, identity="2", digest=manifest("b"), counts=(1, 0, 0, 0))],
        ),
        (
            tenants.globex,
            [
                replace(first, identity="3", finished_at=SCANNED_AT + DAY, digest=manifest("c")),
                replace(first, identity="4", finished_at=SCANNED_AT + DAY, tag="2"),
                replace(first, identity="5", finished_at=SCANNED_AT + 2 * DAY, status="FAILED"),
            ],
        ),
    ]
    for tenant, recorded in scans:
        tenant.add_image(NAME, id="img-1")
        for scan in recorded:
            assert ingest(conn, tenant.organization_id, body_of(scan)).image_id == "img-1"
    for tenant, recorded in scans:
        assert row_of(conn, tenant.organization_id) == oracle.image_row(recorded)
        assert refresh_images(conn, tenant.organization_id, ["img-1"]) == []
        assert find_incorrect_counters(conn, tenant.organization_id) == []


def test_organizations_do_not_wait_for_each_other(
    conn: Connection, config: Config, acme: str, globex: str
) -> None:
    body = reports.envelope(counts=(0, 1))
    with connect(config) as slow, slow.transaction():
        ingest(slow, acme, body)
        conn.execute("SET lock_timeout = '1s'")
        ingest(conn, globex, body)
        assert row_of(conn, globex)["risk_score"] == 25
        assert image_rows(conn, acme) == {}
    assert row_of(conn, acme)["risk_score"] == 25


def test_scan_of_unknown_organization_stores_nothing(conn: Connection) -> None:
    before = stored_rows(conn)
    with pytest.raises(sqlstate.ForeignKeyViolation):
        ingest(conn, "org-unknown", reports.envelope())
    assert stored_rows(conn) == before
