"""Deletions beside uploads store the rows of one serial order."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest

from harborguard.config import Config
from harborguard.errors import NotFound, StoreUnavailable
from harborguard.model import RecordedScan, Scope
from harborguard.store import deletion
from harborguard.store.connection import Connection, connect
from harborguard.store.counters import find_incorrect_counters
from harborguard.store.errors import retry_once, translate_error
from harborguard.store.registries import find_registry
from tests.store.test_deletion import rows_by_table
from tests.store.test_deletion_properties import find_orphans
from tests.store.test_scans_races import wait_until_blocked
from tests.support import oracle, reports
from tests.support.recording import DAY, ingest
from tests.support.reports import SCANNED_AT, image_rows, kept_findings
from tests.support.tenants import OPERATOR, Tenants
from tests.support.waiting import wait_until

HOST = "ghcr.io"
API = f"{HOST}/acme/api"
UPLOADERS = 4


@pytest.fixture
def conns(config: Config) -> Iterator[list[Connection]]:
    """Yield a connection for each thread."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(config)) for _ in range(UPLOADERS + 1)]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(UPLOADERS + 1) as threads:
        yield threads


def scan_of(number: int) -> oracle.Scan:
    moment = SCANNED_AT + number * DAY
    return oracle.Scan(f"scan-{number}", moment, "1", counts=(number % 2, number % 3, 0, 0))


def upload(conn: Connection, organization_id: str, scan: oracle.Scan, name: str = API) -> str:
    """Record a scan and return its id."""
    body = reports.envelope(
        f"{name}:{scan.tag}", scan.counts, scan_id=scan.identity, finished_at=scan.finished_at
    )
    return ingest(conn, organization_id, body).scan_id


def delete(conn: Connection, organization_id: str, kind: str, target: str) -> None:
    function = {"image": deletion.delete_image, "scan": deletion.delete_scan}[kind]
    retry_once(lambda: function(conn, Scope(organization_id), target, actor=OPERATOR))


def expect(conn: Connection, organization_id: str, *recorded: oracle.Scan) -> None:
    """Check that an image has these scans, whose findings were never deleted, and nothing else."""
    expected = {API: oracle.image_row(recorded)} if recorded else {}
    assert image_rows(conn, organization_id) == expected
    kept = oracle.kept_scans(recorded)
    assert kept_findings(conn, organization_id) == sorted(
        (scan.identity, sum(scan.counts)) for scan in recorded if scan.identity in kept
    )
    assert find_incorrect_counters(conn, organization_id) == []
    assert find_orphans(conn, organization_id) == []


def run_after(
    conn: Connection,
    threads: ThreadPoolExecutor,
    first: tuple[Connection, Callable[[Connection], object]],
    second: tuple[Connection, Callable[[Connection], object]],
) -> Future[object]:
    """Run the second while the transaction of the first is open and blocks it."""
    (one, run_one), (other, run_other) = first, second
    with one.transaction():
        run_one(one)
        result = threads.submit(run_other, other)
        wait_until_blocked(conn, other)
    return result


def test_upload_after_concurrent_deletion_of_its_image_creates_the_image_again(
    conn: Connection, acme: str, conns: list[Connection], threads: ThreadPoolExecutor
) -> None:
    old, new = scan_of(0), scan_of(1)
    upload(conn, acme, old)
    [(image_id,)] = conn.execute("SELECT id FROM images").fetchall()
    result = run_after(
        conn,
        threads,
        (conns[0], lambda c: delete(c, acme, "image", image_id)),
        (conns[1], lambda c: upload(c, acme, new)),
    )
    assert result.result()
    expect(conn, acme, new)


def test_deletion_after_concurrent_upload_deletes_its_scan_too(
    conn: Connection, acme: str, conns: list[Connection], threads: ThreadPoolExecutor
) -> None:
    upload(conn, acme, scan_of(0))
    [(image_id,)] = conn.execute("SELECT id FROM images").fetchall()
    run_after(
        conn,
        threads,
        (conns[0], lambda c: upload(c, acme, scan_of(1))),
        (conns[1], lambda c: delete(c, acme, "image", image_id)),
    ).result()
    expect(conn, acme)


@pytest.mark.parametrize("kind", ["image", "scan"])
def test_second_of_two_concurrent_deletions_finds_nothing(
    conn: Connection, acme: str, conns: list[Connection], threads: ThreadPoolExecutor, kind: str
) -> None:
    scan_id = upload(conn, acme, scan_of(0))
    [(image_id,)] = conn.execute("SELECT id FROM images").fetchall()
    target = image_id if kind == "image" else scan_id
    run = partial(delete, organization_id=acme, kind=kind, target=target)
    result = run_after(conn, threads, (conns[0], run), (conns[1], run))
    with pytest.raises(NotFound):
        result.result()
    entries = "SELECT FROM audit_log WHERE action = %s"
    assert conn.execute(entries, [f"{kind}.deleted"]).rowcount == 1


def test_replay_after_concurrent_deletion_of_its_scan_records_it_again(
    conn: Connection, acme: str, conns: list[Connection], threads: ThreadPoolExecutor
) -> None:
    scan = scan_of(1)
    scan_id = upload(conn, acme, scan)
    result = run_after(
        conn,
        threads,
        (conns[0], lambda c: delete(c, acme, "scan", scan_id)),
        (conns[1], lambda c: upload(c, acme, scan)),
    )
    assert result.result() != scan_id
    expect(conn, acme, scan)


def test_scan_recorded_under_another_image_after_its_concurrent_deletion(
    conn: Connection, acme: str, conns: list[Connection], threads: ThreadPoolExecutor
) -> None:
    """The same external id with other content is no conflict once the scan is deleted."""
    scan_id = upload(conn, acme, scan_of(1), f"{HOST}/acme/other")
    result = run_after(
        conn,
        threads,
        (conns[0], lambda c: delete(c, acme, "scan", scan_id)),
        (conns[1], lambda c: upload(c, acme, scan_of(1))),
    )
    assert result.result() != scan_id
    rows = image_rows(conn, acme)
    assert (rows[API]["scan"], rows[f"{HOST}/acme/other"]["scan"]) == ("scan-1", None)
    assert find_incorrect_counters(conn, acme) == []


class Uploaders:
    """Threads that upload scans of few images until they are stopped; no error is unexpected."""

    def __init__(self, organization_id: str, conns: list[Connection]) -> None:
        self._organization_id = organization_id
        self._stopped = threading.Event()
        self.errors: list[Exception] = []
        self.recorded: list[RecordedScan] = []
        self._threads = [
            threading.Thread(target=self._upload, args=(conn, number))
            for number, conn in enumerate(conns)
        ]

    def __enter__(self) -> "Uploaders":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)

    def _upload(self, conn: Connection, number: int) -> None:
        count = 0
        while not self._stopped.is_set():
            count += 1
            host = random.choice((HOST, "quay.io"))
            name = f"{host}/acme/service-{random.randrange(6)}:{random.randrange(2)}"
            body = reports.envelope(
                name,
                (random.randrange(2), random.randrange(2)),
                scan_id=f"{number}-{count}",
                finished_at=SCANNED_AT + random.randrange(5) * DAY,
            )
            try:
                self.recorded.append(ingest(conn, self._organization_id, body))
            except Exception as error:
                self.errors.append(translate_error(error) or error)


def expect_exact(conn: Connection, organization_id: str) -> None:
    """Check that counters are exact, no row is an orphan, and recomputing changes no row."""
    assert find_incorrect_counters(conn, organization_id) == []
    assert find_orphans(conn, organization_id) == []
    stale = conn.execute(
        "SELECT FROM images WHERE scan_id IS NOT NULL AND NOT EXISTS"
        " (SELECT FROM scans WHERE scans.id = images.scan_id)"
    )
    assert stale.rowcount == 0


def test_deletions_of_images_and_scans_beside_uploads_are_exact(
    conn: Connection, acme: str, conns: list[Connection]
) -> None:
    deleted = 0
    deadline = time.monotonic() + 60
    with Uploaders(acme, conns[1:]) as uploaders:
        while deleted < 80 and time.monotonic() < deadline:
            kind = ("image", "scan")[deleted % 2]
            rows = conn.execute(f"SELECT id FROM {kind}s ORDER BY random() LIMIT 1".encode())
            for (target,) in rows.fetchall():
                delete(conns[0], acme, kind, target)
                deleted += 1
    assert uploaders.errors == []
    assert deleted == 80
    assert len(uploaders.recorded) > 40
    expect_exact(conn, acme)


def test_removals_of_a_registry_beside_uploads_are_exact(
    conn: Connection, acme: str, conns: list[Connection]
) -> None:
    removed = interrupted = 0
    # Uploads that never pause interrupt removals. On a busy machine, one took half a minute.
    deadline = time.monotonic() + 200
    with Uploaders(acme, conns[1:]) as uploaders:
        while removed < 3 and time.monotonic() < deadline:
            if registry_id := find_registry(conn, acme, HOST):
                try:
                    list(deletion.remove_registry(conns[0], acme, registry_id, actor=OPERATOR))
                except StoreUnavailable:
                    interrupted += 1
                else:
                    removed += 1
    print(removed, interrupted, len(uploaders.errors), len(uploaders.recorded))
    assert {type(error) for error in uploaders.errors} <= {StoreUnavailable}
    assert removed == 3
    assert len(uploaders.recorded) > len(uploaders.errors)
    expect_exact(conn, acme)


def test_deletion_of_an_organization_beside_uploads_leaves_nothing(
    conn: Connection, tenants: Tenants, conns: list[Connection]
) -> None:
    """Uploads that were authenticated before it fail with 503, and the deletion ends after them."""
    acme = tenants.acme.organization_id
    with Uploaders(acme, conns[1:]) as uploaders:
        wait_until(lambda: len(uploaders.recorded) > 20)
        deletion.begin_organization_deletion(conn, acme)
        try:
            list(deletion.delete_organization(conns[0], acme))
        except StoreUnavailable:
            expect_exact(conn, acme)
    list(deletion.delete_organization(conns[0], acme))
    assert {type(error) for error in uploaders.errors} <= {StoreUnavailable}
    assert not any(rows_by_table(conn, acme).values())
    orphans = conn.execute("SELECT FROM findings WHERE organization_id = %s", [acme])
    assert orphans.rowcount == 0
