"""What the counters cost a recording: the same 500 scans with them and without."""

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from harborguard.ingest import ingest_report
from harborguard.store.connection import Connection
from harborguard.store.images import refresh
from harborguard.store.organizations import create_organization

IMAGES, ROUNDS = 500, 3


def cost_of_counters(conn: Connection) -> float:
    """Time with counters over time without, the median of some interleaved rounds."""
    ratios = []
    for number in range(ROUNDS):
        counted = _record(conn, f"counted-{number}")
        with _without_counters():
            bare = _record(conn, f"bare-{number}")
        ratios.append(counted / bare)
    return statistics.median(ratios)


def _record(conn: Connection, name: str) -> float:
    organization_id = create_organization(conn, name)
    now = datetime.now(UTC)
    began = time.perf_counter()
    for number in range(IMAGES):
        ingest_report(conn, organization_id, _report(name, number, now), received_at=now)
    return time.perf_counter() - began


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
