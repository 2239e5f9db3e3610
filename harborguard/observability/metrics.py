"""Prometheus metrics of the service. Counters are exported with the suffix `_total`.

Label values come from fixed sets, never from a client, so that the number of series is bounded.
Every metric has labels: prometheus-client creates the series of a metric without labels at
import, before it is known where a worker stores its numbers.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

_KNOWN_SCANNERS = frozenset(("trivy", "grype"))
_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"))
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_requests = Counter("harborguard_http_requests", "HTTP requests.", ["route", "method", "status"])
_durations = Histogram(
    "harborguard_http_request_duration_seconds",
    "Time to produce a response, without the time to send it.",
    ["route"],
    buckets=_BUCKETS,
)
_rejections = Counter(
    "harborguard_credentials_rejected", "Requests rejected with 401, by reason.", ["reason"]
)
_uploads = Counter(
    "harborguard_uploads", "Uploaded reports, by scanner and outcome.", ["scanner", "outcome"]
)
_pool = Gauge(
    "harborguard_pool",
    "Database connections in use, and requests waiting for one.",
    ["state"],
    multiprocess_mode="livesum",
)


def initialize_series() -> None:
    """Create the series whose labels are known: a rate needs their first value, zero."""
    for reason in ("missing", "malformed", "unknown"):
        _rejections.labels(reason)
    for state in ("in_use", "waiting"):
        _pool_state(state).set(0)
    _durations.labels("unmatched")


def count_request(route: str, method: str, status: int, seconds: float) -> None:
    """Count a request; `route` is the rule that matched, or "unmatched"."""
    method = method if method in _METHODS else "other"
    _requests_like(route, method, status).inc()
    _durations_of(route).observe(seconds)


def count_rejection(reason: str) -> None:
    """Count a request without a valid credential: missing, malformed or unknown."""
    _rejections.labels(reason).inc()


def count_upload(scanners: Sequence[str], outcome: str) -> None:
    """Count an uploaded report; `outcome` is new, replay or rejected.

    A sensor's report may name any scanner. The first known one becomes the label, else "other".
    """
    kind = next((name for name in scanners if name in _KNOWN_SCANNERS), "other")
    _uploads.labels(kind, outcome).inc()


def track_waiting() -> AbstractContextManager[None]:
    """Count a request as waiting for a connection during the block."""
    return _pool_state("waiting").track_inprogress()


def change_in_use(change: int) -> None:
    """Add to the number of connections in use: 1 for a borrowed one, -1 for a returned one."""
    _pool_state("in_use").inc(change)


# `labels` takes longer than counting, so each series is looked up once.
_requests_like = cache(_requests.labels)
_durations_of = cache(_durations.labels)
_pool_state = cache(_pool.labels)
