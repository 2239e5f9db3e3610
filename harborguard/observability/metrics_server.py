"""Serve the metrics of all workers to Prometheus from the gunicorn master.

Each worker stores its counters in the files of a slot. When a worker exits, its successor takes the
slot and continues the counters. Totals therefore stay exact even if workers are killed, and the
number of files does not grow.
"""

import os
import shutil
import tempfile
from collections.abc import Container
from itertools import count
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Gauge, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from harborguard import __version__

_PREFIX = "harborguard-metrics-"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a private directory is created in it
# Bytes of a file, enough for thousands of series. They are allocated in advance: if the disk is
# full, a write to a hole in a memory-mapped file kills the process with SIGBUS.
_SIZE = 256 * 1024
_COUNTERS, _GAUGES = ("counter", "histogram"), ("gauge_livesum",)

log = structlog.get_logger()


class MetricsServer:
    """HTTP server on a loopback port, and a private directory for the files of the workers.

    The directory is in /dev/shm, or in the temporary directory if /dev/shm is not writable. `close`
    removes it. If the master is killed with SIGKILL, the directory remains until the machine
    restarts: 768 KiB for each worker. A new master creates its own directory.
    """

    def __init__(self, port: int, *collectors: Collector) -> None:
        registry = CollectorRegistry()
        release = Gauge("harborguard_release_info", "This release.", ["version"], registry=registry)
        release.labels(__version__).set(1)
        self._server, _ = start_http_server(port, "127.0.0.1", registry)
        self._directory = _make_directory()
        MultiProcessCollector(registry, str(self._directory))
        for collector in collectors:
            registry.register(collector)

    def prepare_slot(self, taken: Container[int]) -> int:
        """Return the lowest free slot, and create its files if possible.

        Counter files of an earlier worker are kept; gauge files are replaced by empty ones.
        """
        slot = next(number for number in count() if number not in taken)
        try:
            for kind in _COUNTERS + _GAUGES:
                file = self._directory / f"{kind}_{slot}.db"
                if kind in _GAUGES or not file.exists():
                    self._create_empty(file)
        except OSError as error:
            log.warning("metrics of a worker cannot be stored", slot=slot, error=str(error))
        return slot

    def _create_empty(self, file: Path) -> None:
        # Renamed into place: a scrape at this moment must not read an incomplete file.
        new = file.with_suffix(".new")
        new.write_bytes(bytes(_SIZE))
        new.replace(file)

    def attach_worker(self) -> None:
        """Prepare a worker, just forked, to count in the files of this directory.

        The worker closes the port, which only the master serves.
        """
        self._server.socket.close()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self._directory)

    def detach_worker(self, slot: int) -> None:
        """Remove the gauges of a worker that has exited; its connections are closed."""
        mark_process_dead(slot, str(self._directory))

    def close(self) -> None:
        """Remove the directory; the port is free when the process ends."""
        shutil.rmtree(self._directory, ignore_errors=True)


def _make_directory() -> Path:
    """Create a private directory, in memory if possible."""
    in_memory = os.access(_SHARED_MEMORY, os.W_OK | os.X_OK)
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_SHARED_MEMORY if in_memory else None))
