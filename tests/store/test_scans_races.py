"""Recording scans concurrently stores the same rows as recording them in sequence."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from harborguard.config import Config
from harborguard.errors import Conflict
from harborguard.model import RecordedScan
from harborguard.store.connection import Connection, connect
from harborguard.store.counters import find_incorrect_counters
from tests.support import oracle
from tests.support.recording import (
    DAY,
    NAME,
    T,
    body_of,
    ingest,
    record_all,
    row_of,
    rows_of,
)
from tests.support.reports import SCANNED_AT, image_rows, kept_findings, manifest

RUNNERS = 16


@pytest.fixture
def runners(conn: Connection, config: Config) -> Iterator["Runners"]:
    with Runners(config) as runners:
        yield runners


class Runners(ExitStack):
    """Sixteen connections, each with its own thread."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.conns = [self.enter_context(connect(config)) for _ in range(RUNNERS)]
        self.threads = self.enter_context(ThreadPoolExecutor(RUNNERS))
        self.gate = threading.Barrier(RUNNERS)

    def race(self, organization_id: str, bodies: list[bytes]) -> list[RecordedScan | Conflict]:
        """Record the bodies, sixteen at the same time; return the result of each."""

        def run(conn: Connection, body: bytes) -> RecordedScan | Conflict:
            self.gate.wait(60)
            try:
                return ingest(conn, organization_id, body)
            except Conflict as conflict:
                return conflict

        results: list[RecordedScan | Conflict] = []
        for start in range(0, len(bodies), RUNNERS):
            results += self.threads.map(run, self.conns, bodies[start : start + RUNNERS])
        return results


def expect(conn: Connection, organization_id: str, images: dict[str, list[oracle.Scan]]) -> None:
    """Check that the rows are the oracle's, without extra scans, tags, findings or registries."""
    assert image_rows(conn, organization_id) == {
        name: oracle.image_row(scans) for name, scans in images.items()
    }
    recorded = [(name, scan) for name, scans in images.items() for scan in scans]
    assert sorted(row["external_id"] for row in rows_of(conn, "scans")) == sorted(
        scan.identity for _, scan in recorded
    )
    assert len(rows_of(conn, "tags")) == len(
        {(name, scan.tag, scan.digest) for name, scan in recorded if scan.tag}
    )
    assert sorted(row["host"] for row in rows_of(conn, "registries")) == sorted(
        {name.partition("/")[0] for name in images}
    )
    kept = {identity for scans in images.values() for identity in oracle.kept_scans(scans)}
    assert kept_findings(conn, organization_id) == sorted(
        (scan.identity, sum(scan.counts)) for _, scan in recorded if scan.identity in kept
    )
    assert find_incorrect_counters(conn, organization_id) == []


def scan_of(number: int, tag: str, **changes: Any) -> oracle.Scan:
    """Return a scan whose time, digest and counts depend on its number."""
    moment = SCANNED_AT + timedelta(seconds=(number * 37) % 101)
    counts = (number % 2, number % 3, number % 5, number % 7)
    scan = oracle.Scan(f"{number:04}", moment, tag, manifest("abc"[number % 3]), counts=counts)
    return replace(scan, **changes)


def body_for(name: str, scan: oracle.Scan) -> bytes:
    return body_of(scan).replace(NAME.encode(), name.encode())


ROUNDS = 24


def in_pairs(items: Sequence[T]) -> list[tuple[T, T]]:
    return list(zip(items[::2], items[1::2], strict=True))


def test_concurrent_replays_of_one_scan_record_it_once(
    conn: Connection, acme: str, runners: Runners
) -> None:
    """Images and registries are new, so that both connections try to insert all rows."""
    images = {f"r{n}.test/acme/api": [scan_of(n, "1")] for n in range(ROUNDS * RUNNERS // 2)}
    bodies = [body_for(name, scan) for name, [scan] in images.items() for _ in range(2)]

    results = runners.race(acme, bodies)

    recorded = [scan for scan in results if isinstance(scan, RecordedScan)]
    assert len(recorded) == len(bodies)
    for one, other in in_pairs(recorded):
        assert {one.is_new, other.is_new} == {True, False}
        assert replace(one, is_new=True) == replace(other, is_new=True)
    expect(conn, acme, images)


def test_concurrent_scans_of_one_image_are_both_recorded(
    conn: Connection, acme: str, runners: Runners
) -> None:
    """The first pair of scans is of a new image in a new registry, the second of a known one."""
    images = {
        f"r{pair}.test/acme/api": [scan_of(n, f"1.{n % 4}") for n in range(4 * pair, 4 * pair + 4)]
        for pair in range(ROUNDS * RUNNERS // 4)
    }
    for half in (slice(0, 2), slice(2, 4)):
        bodies = [body_for(name, scan) for name, scans in images.items() for scan in scans[half]]
        results = runners.race(acme, bodies)
        assert [isinstance(scan, RecordedScan) and scan.is_new for scan in results] == (
            [True] * len(bodies)
        )
        expect(conn, acme, {name: scans[: half.stop] for name, scans in images.items()})


def test_scan_waits_for_concurrent_scan_of_same_image(
    conn: Connection, acme: str, runners: Runners
) -> None:
    """The last refresh of the image's row must read all of its scans."""
    [older, newer] = [oracle.Scan(str(day), SCANNED_AT + day * DAY, "1") for day in (1, 2)]
    known = oracle.Scan("0", SCANNED_AT, "1", counts=(1, 0, 0, 0))
    record_all(conn, acme, known)
    first, second, *_ = runners.conns
    with first.transaction():
        ingest(first, acme, body_of(newer))
        result = runners.threads.submit(ingest, second, acme, body_of(older))
        wait_until_blocked(conn, second)
        assert row_of(conn, acme) == oracle.image_row([known])
    assert result.result().is_new
    assert row_of(conn, acme) == oracle.image_row([known, older, newer])


def wait_until_blocked(observer: Connection, waiter: Connection) -> None:
    query = "SELECT cardinality(pg_blocking_pids(%s))"
    for _ in range(1000):
        if observer.execute(query, [waiter.info.backend_pid]).fetchone() == (1,):
            return
        time.sleep(0.01)
    pytest.fail("the connection is not blocked")


def test_sixteen_concurrent_scans_of_one_image_are_recorded(
    conn: Connection, acme: str, runners: Runners
) -> None:
    scans = [scan_of(n, f"1.{n % 5}") for n in range(3 * RUNNERS)]
    runners.race(acme, [body_of(scan) for scan in scans])
    expect(conn, acme, {NAME: scans})


def test_concurrent_scans_with_one_id_record_one_and_store_nothing_of_the_other(
    conn: Connection, acme: str, runners: Runners
) -> None:
    """The conflicting scan does not even create its registry."""
    pairs = [
        [f"r{pair}-{copy}.test/acme/api" for copy in range(2)] for pair in range(RUNNERS // 2 * 4)
    ]
    scans = [scan_of(number, "1") for number in range(len(pairs))]
    bodies = [
        body_for(name, scan) for pair, scan in zip(pairs, scans, strict=True) for name in pair
    ]

    results = runners.race(acme, bodies)

    recorded = [isinstance(result, RecordedScan) for result in results]
    images = {}
    for names, scan, outcomes in zip(pairs, scans, in_pairs(recorded), strict=True):
        assert sorted(outcomes) == [False, True]
        images[names[outcomes.index(True)]] = [scan]
    expect(conn, acme, images)
