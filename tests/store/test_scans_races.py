"""Recording: many at once end as one after the other."""

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
from harborguard.store.counters import find_counter_drift
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
from tests.support.reports import SCANNED_AT, image_rows, manifest

RUNNERS = 16


@pytest.fixture
def runners(conn: Connection, config: Config) -> Iterator["Runners"]:
    with Runners(config) as runners:
        yield runners


class Runners(ExitStack):
    """Sixteen connections, each on a thread of its own."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.conns = [self.enter_context(connect(config)) for _ in range(RUNNERS)]
        self.threads = self.enter_context(ThreadPoolExecutor(RUNNERS))
        self.gate = threading.Barrier(RUNNERS)

    def race(self, organization_id: str, bodies: list[bytes]) -> list[RecordedScan | Conflict]:
        """Each body by a thread, sixteen at a time and all at once; what each was told."""

        def run(conn: Connection, body: bytes) -> RecordedScan | Conflict:
            self.gate.wait(60)
            try:
                return ingest(conn, organization_id, body)
            except Conflict as conflict:
                return conflict

        told: list[RecordedScan | Conflict] = []
        for start in range(0, len(bodies), RUNNERS):
            told += self.threads.map(run, self.conns, bodies[start : start + RUNNERS])
        return told


def expect(conn: Connection, organization_id: str, images: dict[str, list[oracle.Scan]]) -> None:
    """Rows are the oracle's, with no more scans, tags or registries than there must be."""
    assert image_rows(conn, organization_id) == {
        name: oracle.image_row(scans) for name, scans in images.items()
    }
    told = [(name, scan) for name, scans in images.items() for scan in scans]
    assert sorted(row["external_id"] for row in rows_of(conn, "scans")) == sorted(
        scan.identity for _, scan in told
    )
    assert len(rows_of(conn, "tags")) == len(
        {(name, scan.tag, scan.digest) for name, scan in told if scan.tag}
    )
    assert sorted(row["host"] for row in rows_of(conn, "registries")) == sorted(
        {name.partition("/")[0] for name in images}
    )
    assert len(rows_of(conn, "findings")) == sum(sum(scan.counts) for _, scan in told)
    assert find_counter_drift(conn, organization_id) == []


def scan_of(number: int, tag: str, **changes: Any) -> oracle.Scan:
    """One of many scans: each with a time and counts of its own."""
    moment = SCANNED_AT + timedelta(seconds=(number * 37) % 101)
    counts = (number % 2, number % 3, number % 5, number % 7)
    scan = oracle.Scan(f"{number:04}", moment, tag, manifest("abc"[number % 3]), counts=counts)
    return replace(scan, **changes)


def body_for(name: str, scan: oracle.Scan) -> bytes:
    return body_of(scan).replace(NAME.encode(), name.encode())


ROUNDS = 24


def in_pairs(things: Sequence[T]) -> list[tuple[T, T]]:
    return list(zip(things[::2], things[1::2], strict=True))


def test_pairs_of_one_scan_race(conn: Connection, acme: str, runners: Runners) -> None:
    """Of new images in new registries, so that everything is made by one of the two."""
    images = {f"r{n}.test/acme/api": [scan_of(n, "1")] for n in range(ROUNDS * RUNNERS // 2)}
    bodies = [body_for(name, scan) for name, [scan] in images.items() for _ in range(2)]

    told = runners.race(acme, bodies)

    recorded = [scan for scan in told if isinstance(scan, RecordedScan)]
    assert len(recorded) == len(bodies)
    for one, other in in_pairs(recorded):
        assert {one.is_new, other.is_new} == {True, False}
        assert replace(one, is_new=True) == replace(other, is_new=True)
    expect(conn, acme, images)


def test_pairs_of_one_image_race(conn: Connection, acme: str, runners: Runners) -> None:
    """Of a new image in a new registry, then each once more of one that is known."""
    images = {
        f"r{pair}.test/acme/api": [scan_of(n, f"1.{n % 4}") for n in range(4 * pair, 4 * pair + 4)]
        for pair in range(ROUNDS * RUNNERS // 4)
    }
    for half in (slice(0, 2), slice(2, 4)):
        bodies = [body_for(name, scan) for name, scans in images.items() for scan in scans[half]]
        told = runners.race(acme, bodies)
        assert [isinstance(scan, RecordedScan) and scan.is_new for scan in told] == (
            [True] * len(bodies)
        )
        expect(conn, acme, {name: scans[: half.stop] for name, scans in images.items()})


def test_scans_of_one_image_are_recorded_one_after_the_other(
    conn: Connection, acme: str, runners: Runners
) -> None:
    """So that the summary that is made last has seen all of them."""
    [older, newer] = [oracle.Scan(str(day), SCANNED_AT + day * DAY, "1") for day in (1, 2)]
    known = oracle.Scan("0", SCANNED_AT, "1", counts=(1, 0, 0, 0))
    record_all(conn, acme, known)
    first, second, *_ = runners.conns
    with first.transaction():
        ingest(first, acme, body_of(newer))
        told = runners.threads.submit(ingest, second, acme, body_of(older))
        wait_until_blocked(conn, second)
        assert row_of(conn, acme) == oracle.image_row([known])
    assert told.result().is_new
    assert row_of(conn, acme) == oracle.image_row([known, older, newer])


def wait_until_blocked(observer: Connection, waiter: Connection) -> None:
    query = "SELECT cardinality(pg_blocking_pids(%s))"
    for _ in range(1000):
        if observer.execute(query, [waiter.info.backend_pid]).fetchone() == (1,):
            return
        time.sleep(0.01)
    pytest.fail("nobody waits")


def test_sixteen_scans_of_one_image_race(conn: Connection, acme: str, runners: Runners) -> None:
    scans = [scan_of(n, f"1.{n % 5}") for n in range(3 * RUNNERS)]
    runners.race(acme, [body_of(scan) for scan in scans])
    expect(conn, acme, {NAME: scans})


def test_one_identity_races_for_two_images(conn: Connection, acme: str, runners: Runners) -> None:
    """One of the two is recorded; of the other nothing is left, not even its registry."""
    pairs = [
        [f"r{pair}-{copy}.test/acme/api" for copy in range(2)] for pair in range(RUNNERS // 2 * 4)
    ]
    scans = [scan_of(number, "1") for number in range(len(pairs))]
    bodies = [
        body_for(name, scan) for pair, scan in zip(pairs, scans, strict=True) for name in pair
    ]

    told = runners.race(acme, bodies)

    won = [isinstance(answer, RecordedScan) for answer in told]
    images = {}
    for names, scan, is_won in zip(pairs, scans, in_pairs(won), strict=True):
        assert sorted(is_won) == [False, True]
        images[names[is_won.index(True)]] = [scan]
    expect(conn, acme, images)
