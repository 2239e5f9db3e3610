"""Export a million images: rows per second, memory, and what it costs another organization."""

import http.client
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.tools.bench.drive import drive
from tests.tools.bench.load import SIZES, BenchTenant

_PAUSE = 0.2  # seconds between two samples of the memory


class Exports(NamedTuple):
    """The rows per second by format, the growth of the memory in MiB, and a ratio of p99.

    `p99_ratio` is that of another organization's default page, beside exports over without.
    """

    rates: dict[str, float]
    memory: float
    p99_ratio: float


def measure_exports(
    port: int,
    tenants: dict[str, BenchTenant],
    memory: Callable[[], float],
    *,
    rounds: int,
    seconds: int,
) -> Exports:
    """Export the images of the largest organization; `memory` returns the service's MiB."""
    rates: dict[str, list[float]] = {"csv": [], "ndjson": []}
    ratios: list[float] = []
    peaks = [before := memory()]
    with _repeating(lambda: peaks.append(memory()), _PAUSE):
        for _ in range(rounds):
            for export_format, samples in rates.items():
                samples.append(_export(port, tenants["1M"], export_format))
            alone = _p99(port, tenants["10k"], seconds)
            with _repeating(lambda: _export(port, tenants["1M"], "csv"), 0):
                ratios.append(_p99(port, tenants["10k"], seconds) / alone)
    medians = {name: statistics.median(samples) for name, samples in rates.items()}
    return Exports(medians, max(peaks) - before, statistics.median(ratios))


def _export(port: int, tenant: BenchTenant, export_format: str) -> float:
    """Return the rows per second of an export; raise IncompleteRead if it breaks."""
    conn = http.client.HTTPConnection("127.0.0.1", port)
    started = time.perf_counter()
    path = f"/api/images/export?format={export_format}"
    conn.request("GET", path, headers={"X-API-Key": tenant.key})
    response = conn.getresponse()
    if response.status != http.HTTPStatus.OK:
        raise RuntimeError(f"{path}: {response.status}")
    lines = 0
    while part := response.read(1 << 20):
        lines += part.count(b"\n")
    seconds = time.perf_counter() - started
    conn.close()
    rows = lines - (export_format == "csv")
    if rows != SIZES["1M"]:
        raise RuntimeError(f"{path}: {rows} rows")
    return rows / seconds


def _p99(port: int, tenant: BenchTenant, seconds: int) -> float:
    headers = {"X-API-Key": tenant.key}
    return drive(port, "/api/images", headers, connections=1, seconds=seconds).p99


@contextmanager
def _repeating(work: Callable[[], object], pause: float) -> Iterator[None]:
    """Repeat work in a thread during the block; raise its error after the block."""
    stopping = threading.Event()
    errors: list[Exception] = []

    def repeat() -> None:
        try:
            while not stopping.wait(pause):
                work()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
    if errors:
        raise errors[0]
