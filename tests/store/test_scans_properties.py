"""Recording any scans in any order of arrival stores the rows of the oracle."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harborguard.ingest import ingest_report, make_scan
from harborguard.store.connection import Connection
from harborguard.store.counters import find_incorrect_counters
from harborguard.store.images.refresh import refresh_images
from harborguard.store.organizations import create_organization
from tests.support import oracle, reports
from tests.support.reports import RECEIVED_AT, SCANNED_AT, image_rows, manifest, recorded_rows

NAMES = ["ghcr.io/acme/api", "quay.io/acme/api"]
TAGS = [None, "1.9", "1.10", "Latest"]
DIGESTS = [None, manifest("a"), manifest("b"), manifest("c")]
# Few distinct times: two scans, or a build and an observation, often have the same time.
TIMES = [SCANNED_AT + timedelta(hours=hours) for hours in (-48, -24, 0, 24)]
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
    """Draw an envelope with a status, or a Trivy report with a build time."""
    tag = draw(st.sampled_from(TAGS))
    scan = oracle.Scan(
        identity=f"{draw(st.integers(0, 9))}-{number}",
        finished_at=draw(st.sampled_from(TIMES)),
        tag=tag,
        digest=draw(st.sampled_from(DIGESTS if tag else DIGESTS[1:])),
        counts=draw(st.tuples(*[st.integers(0, max_count) for max_count in (1, 2, 5, 5)])),
    )
    name = draw(st.sampled_from(NAMES))
    if draw(st.booleans()):
        return make_envelope(name, replace(scan, status=draw(st.sampled_from(STATUSES))))
    return make_trivy(name, replace(scan, built_at=draw(st.sampled_from(BUILDS))))


def make_envelope(name: str, scan: oracle.Scan) -> Upload:
    body = reports.envelope(
        reference_of(name, scan),
        scan.counts,
        scan_id=scan.identity,
        finished_at=scan.finished_at,
        status=scan.status,
        digest=scan.digest,
    )
    return Upload(body, name, scan)


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
        organization_id = create_organization(conn, "arrivals")
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
        assert refresh_images(conn, organization_id, ids) == []
        assert find_incorrect_counters(conn, organization_id) == []
        return rows, recorded_rows(conn, organization_id)


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
