"""Recording any scans in any order of arrival stores the rows of the oracle."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harborguard.ingest import ingest_report, make_scan
from harborguard.listing import Page
from harborguard.model import Scope
from harborguard.store.connection import Connection
from harborguard.store.counters import find_incorrect_counters
from harborguard.store.images.details import get_image, list_tags
from harborguard.store.images.refresh import refresh_images
from harborguard.store.organizations import create_organization
from tests.support import oracle, reports
from tests.support.reports import (
    RECEIVED_AT,
    SCANNED_AT,
    image_rows,
    kept_findings,
    manifest,
    recorded_rows,
)
from tests.support.tenants import OPERATOR

NAMES = ["ghcr.io/acme/api", "quay.io/acme/api"]
TAGS = [None, "1.9", "1.10", "Latest"]
DIGESTS = [None, manifest("a"), manifest("b"), manifest("c")]
SCANNERS = [("trivy",), ("grype",), ("osv",), ("grype", "trivy")]
# Few distinct times: two scans, or a build and an observation, often have the same time. Others
# differ by 24 hours, or by a little more or less.
TIMES = [
    SCANNED_AT + timedelta(hours=hours, milliseconds=milliseconds)
    for hours, milliseconds in ((-48, 0), (-24, -1), (-24, 0), (-23, 0), (0, 0), (0, 1), (24, 0))
]
BUILDS = [
    None,
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(2000, 1, 1, tzinfo=UTC),
    SCANNED_AT - timedelta(days=90),
    *TIMES,
]
COUNTED = ["scan", "risk_score", "grade", "critical", "high", "medium", "low", "last_scanned_at"]
STATUSES = ["SUCCESS", "PARTIAL", "FAILED", "CANCELLED"]


@dataclass(frozen=True)
class Upload:
    """A report, the name of its image and its scan for the oracle."""

    body: bytes
    name: str
    scan: oracle.Scan


@st.composite
def uploads(draw: st.DrawFn, number: int) -> Upload:
    """Draw an envelope with a status, a Grype report, or a Trivy report with a build time."""
    tag = draw(st.sampled_from(TAGS))
    scan = oracle.Scan(
        identity=f"{draw(st.integers(0, 9))}-{number}",
        finished_at=draw(st.sampled_from(TIMES)),
        tag=tag,
        digest=draw(st.sampled_from(DIGESTS if tag else DIGESTS[1:])),
        counts=draw(st.tuples(*[st.integers(0, max_count) for max_count in (1, 2, 5, 5)])),
    )
    name = draw(st.sampled_from(NAMES))
    match draw(st.sampled_from(["envelope", "grype", "trivy"])):
        case "envelope":
            status, scanners = draw(st.sampled_from(STATUSES)), draw(st.sampled_from(SCANNERS))
            return make_envelope(name, replace(scan, status=status, scanners=scanners))
        case "grype":
            return make_grype(name, replace(scan, scanners=("grype",)), number)
    return make_trivy(name, replace(scan, built_at=draw(st.sampled_from(BUILDS))))


def make_envelope(name: str, scan: oracle.Scan) -> Upload:
    body = reports.envelope(
        reference_of(name, scan),
        scan.counts,
        scan_id=scan.identity,
        finished_at=scan.finished_at,
        status=scan.status,
        digest=scan.digest,
        scanners=scan.scanners,
    )
    return Upload(body, name, scan)


def make_grype(name: str, scan: oracle.Scan, number: int) -> Upload:
    body = reports.grype(
        reference_of(name, scan), scan.counts, finished_at=scan.finished_at, digest=scan.digest
    )
    body += b" " * number  # distinct uploads have distinct bytes
    identity = make_scan(body, received_at=RECEIVED_AT).external_id
    return Upload(body, name, replace(scan, identity=identity))


def make_trivy(name: str, scan: oracle.Scan) -> Upload:
    body = reports.trivy(
        reference_of(name, scan),
        scan.counts,
        report_id=scan.identity,
        finished_at=scan.finished_at,
        digest=scan.digest,
        built_at=scan.built_at,
    )
    identity = make_scan(body, received_at=RECEIVED_AT).external_id
    return Upload(body, name, replace(scan, identity=identity))


def reference_of(name: str, scan: oracle.Scan) -> str:
    return f"{name}:{scan.tag}" if scan.tag else f"{name}@{scan.digest}"


histories = st.integers(1, 8).flatmap(
    lambda size: st.tuples(*(uploads(number) for number in range(size)))
)


def record(conn: Connection, history: Iterable[Upload]) -> tuple[dict[str, Any], Any]:
    """Record uploads in a new organization; return the images' rows and all stored rows.

    After each upload the rows must equal the oracle's. At the end, refreshing the images must
    change nothing and the counters must be correct. The transaction is rolled back.
    """
    with conn.transaction(force_rollback=True):
        organization_id = create_organization(conn, "arrivals", actor=OPERATOR)
        recorded_scans: dict[str, list[oracle.Scan]] = {}
        ids: list[str] = []
        rows: dict[str, Any] = {}
        for upload in history:
            result = ingest_report(conn, organization_id, upload.body, received_at=RECEIVED_AT)
            scans = recorded_scans.setdefault(upload.name, [])
            assert result.is_new == (upload.scan not in scans)
            scans.append(upload.scan)
            ids.append(result.image_id)
            rows = image_rows(conn, organization_id)
            assert rows == {name: oracle.image_row(scans) for name, scans in recorded_scans.items()}
            check_details_and_tags(conn, organization_id, result.image_id, scans)
            check_kept_findings(conn, organization_id, recorded_scans)
        assert refresh_images(conn, organization_id, ids) == []
        assert find_incorrect_counters(conn, organization_id) == []
        return rows, recorded_rows(conn, organization_id)


def check_details_and_tags(
    conn: Connection, organization_id: str, image_id: str, scans: list[oracle.Scan]
) -> None:
    """Compare the compared scans of an image, and the scores of its tags, with the oracle."""
    query = "SELECT id, external_id FROM scans WHERE organization_id = %s"
    identities = dict(conn.execute(query, [organization_id]).fetchall())
    scope = Scope(organization_id)
    image = get_image(conn, scope, image_id)
    found = [
        (image.scan_id, image.scan_status, image.scanners, image.scan_finished_at),
        *((each.id, each.status, each.scanners, each.finished_at) for each in image.other_scans),
    ]
    assert [
        (identities[scan_id], status, tuple(scanners), finished_at)
        for scan_id, status, scanners, finished_at in found
        if scan_id and scanners
    ] == [
        (scan.identity, scan.status, scan.scanners, to_text(scan.finished_at))
        for scan in oracle.compared_scans(scans)
    ]
    assert [(each.risk_score, each.grade) for each in image.other_scans] == [
        (oracle.score_of(scan.counts), oracle.grade_of(oracle.score_of(scan.counts)))
        for scan in oracle.compared_scans(scans)[1:]
    ]
    for tag in list_tags(conn, scope, image_id, Page()).items:
        expected = oracle.tag_row(scans, tag.name)
        columns = {column: getattr(tag, column) for column in COUNTED if column != "scan"}
        assert {**columns, "scan": expected["scan"]} == {
            **expected,
            "last_scanned_at": expected["last_scanned_at"] and to_text(expected["last_scanned_at"]),
        }


def check_kept_findings(
    conn: Connection, organization_id: str, recorded: dict[str, list[oracle.Scan]]
) -> None:
    """Compare the scans whose findings are stored, and the number of these, with the oracle."""
    assert kept_findings(conn, organization_id) == sorted(
        (scan.identity, sum(scan.counts))
        for scans in recorded.values()
        for scan in set(scans)
        if scan.identity in oracle.kept_scans(scans)
    )


def to_text(time: datetime) -> str:
    """Return a time as the contract writes it (contract 1.5)."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=histories, data=st.data())
def test_shuffled_history_with_replays_stores_same_rows(
    conn: Connection, history: tuple[Upload, ...], data: st.DataObject
) -> None:
    replays = data.draw(st.lists(st.sampled_from(history), max_size=3))
    shuffled = data.draw(st.permutations([*history, *replays]))
    assert record(conn, history) == record(conn, shuffled)


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=histories)
def test_unfinished_scans_change_no_score(conn: Connection, history: tuple[Upload, ...]) -> None:
    finished = [upload for upload in history if upload.scan.is_finished]
    with_all, _ = record(conn, history)
    with_finished, _ = record(conn, finished)
    for name, row in with_finished.items():
        assert {column: with_all[name][column] for column in COUNTED} == {
            column: row[column] for column in COUNTED
        }
