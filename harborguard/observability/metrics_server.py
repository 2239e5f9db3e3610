"""The numbers of all workers as one answer to Prometheus, given by their master.

Each worker counts in files of its own. They belong to its place, not to its process: who takes the
place of a dead worker counts on from where that one stopped. So totals stay exact over any number
of workers, whatever ended them, and there are never more files than places.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Container
from contextlib import suppress
from itertools import count
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Gauge, start_http_server, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from harborguard import __version__
from harborguard.observability import metrics

_PREFIX = "harborguard-metrics-"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of ours is made in it
# Room for thousands of series, taken in advance: a full disk would kill who writes to a mapped
# file that has holes.
_SIZE = 256 * 1024
_COUNTERS, _GAUGES = ("counter", "histogram"), ("gauge_livesum",)

log = structlog.get_logger()


class MetricsServer:
    """The master's side: a directory that lives as long as it does, and the port to ask at."""

    def __init__(self, port: int) -> None:
        registry = CollectorRegistry()
        release = Gauge("harborguard_release_info", "This release.", ["version"], registry=registry)
        release.labels(__version__).set(1)
        self._server, _ = start_http_server(port, "127.0.0.1", registry)
        self._directory = _make_directory()
        # Held open for its lock, which tells the next master that this one is alive.
        self._lock = _lock(self._directory)
        MultiProcessCollector(registry, str(self._directory))

    def prepare_slot(self, taken: Container[int]) -> int:
        """The number of a free place, with its files where they can be made."""
        place = next(number for number in count() if number not in taken)
        try:
            for kind in _COUNTERS + _GAUGES:
                file = self._directory / f"{kind}_{place}.db"
                if kind in _GAUGES or not file.exists():
                    self._make_empty(file)
        except OSError as error:
            log.warning("a worker's numbers cannot be kept", error=str(error))
        return place

    def _make_empty(self, file: Path) -> None:
        # Somebody may be asking at this moment, and must not find a file that is half made.
        fresh = file.with_suffix(".new")
        fresh.write_bytes(bytes(_SIZE))
        fresh.replace(file)

    def join(self, place: int) -> None:
        """Makes a worker, just forked, count in the files of its place, and leave the port.

        All are opened here. Where that fails the worker counts for itself, and serves.
        """
        self._server.socket.close()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self._directory)
        values.ValueClass = values.MultiProcessValue(lambda: place)
        try:
            metrics.begin()
        except OSError:
            values.ValueClass = values.MutexValue

    def detach_worker(self, place: int) -> None:
        """A worker has died: what it had in use, it has no longer."""
        mark_process_dead(place, str(self._directory))

    def close(self) -> None:
        """Removes the directory; the port is free when the process ends."""
        shutil.rmtree(self._directory, ignore_errors=True)


def _make_directory() -> Path:
    """A new directory, in memory where possible; what killed masters left there is removed."""
    in_memory = os.access(_SHARED_MEMORY, os.W_OK | os.X_OK)
    parent = _SHARED_MEMORY if in_memory else Path(tempfile.gettempdir())
    for left in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            lock = _lock(left)
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))


def _lock(directory: Path) -> int:
    """Locks a directory as long as the descriptor is open; OSError where another has it."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd
