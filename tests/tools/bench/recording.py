"""The rate of recording, and the cost of its counters: the same 500 scans with and without them."""

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from harborguard.ingest import ingest_report
from harborguard.store.connection import Connection
from harborguard.store.images import refresh
from harborguard.store.organizations import create_organization
from tests.support.tenants import OPERATOR

IMAGES, ROUNDS = 500, 3


class RecordingCost(NamedTuple):
    """`counter_ratio` is the time with counters over the time without; `rate` is scans/s."""

    counter_ratio: float
    rate: float


def measure_recording(conn: Connection) -> RecordingCost:
    """Return the medians of interleaved rounds, in one process and one session."""
    ratios, rates = [], []
    for number in range(ROUNDS):
        with_counters = _record(conn, f"counted-{number}")
        with _without_counters():
            without_counters = _record(conn, f"uncounted-{number}")
        ratios.append(with_counters / without_counters)
        rates.append(IMAGES / with_counters)
    return RecordingCost(statistics.median(ratios), statistics.median(rates))


def _record(conn: Connection, name: str) -> float:
    organization_id = create_organization(conn, name, actor=OPERATOR)
    now = datetime.now(UTC)
    started = time.perf_counter()
    for number in range(IMAGES):
        ingest_report(conn, organization_id, _report(name, number, now), received_at=now)
    return time.perf_counter() - started


def _report(name: str, number: int, now: datetime) -> bytes:
    vulnerabilities = [
        {"cveId": f"CVE-2026-{i}", "source": "t", "severity": "HIGH", "packageName": f"p{i}"}
        for i in range(number % 30)
    ]
    scan = {"id": f"{name}-{number}", "finishedAt": now.isoformat(), "status": "SUCCESS"}
    image = {"ref": f"ghcr.io/bench/service-{number}:1"}
    findings = {"vulnerabilities": vulnerabilities}
    document = {"version": "1.0", "image": image, "scan": scan, "findings": findings}
    return json.dumps(document).encode()


@contextmanager
def _without_counters() -> Iterator[None]:
    change_counters = refresh.change_counters
    refresh.change_counters = lambda *_args, **_kwargs: None
    try:
        yield
    finally:
        refresh.change_counters = change_counters
