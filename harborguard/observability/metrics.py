"""What is counted while the service runs, under the names that Prometheus knows.

Every label is one of a few words, never a client's: a family of series cannot grow without bound.
All families have labels, for one without would be made when this is imported, before
`exposition` has said where the numbers are kept.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

_KNOWN_SCANNERS = frozenset(("trivy", "grype"))
_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"))
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_requests = Counter(
    "harborguard_http_requests", "Requests answered.", ["route", "method", "status"]
)
_durations = Histogram(
    "harborguard_http_request_duration_seconds",
    "From the first hook to the finished answer, before it is sent.",
    ["route"],
    buckets=_BUCKETS,
)
_refusals = Counter(
    "harborguard_credentials_refused", "Requests refused with 401, by what was shown.", ["reason"]
)
_scans = Counter("harborguard_scans_recorded", "Reports received.", ["scanner", "outcome"])
_pool = Gauge(
    "harborguard_pool",
    "Connections lent to requests, and requests waiting for one.",
    ["state"],
    multiprocess_mode="livesum",
)


def begin() -> None:
    """Makes the series whose labels are known: a rate needs to see them at zero first."""
    for reason in ("missing", "malformed", "unknown"):
        _refusals.labels(reason)
    for state in ("in_use", "waiting"):
        _pool_state(state).set(0)
    _durations.labels("unmatched")


def count_request(route: str, method: str, status: int, seconds: float) -> None:
    """One request answered; `route` is a rule of ours, or "unmatched"."""
    method = method if method in _METHODS else "other"
    _requests_like(route, method, status).inc()
    _durations_of(route).observe(seconds)


def count_refusal(reason: str) -> None:
    """One request without a good credential: missing, malformed or unknown."""
    _refusals.labels(reason).inc()


def count_scan(scanners: Sequence[str], outcome: str) -> None:
    """One report that came in: by which kind of scanner, and whether new, a replay or refused.

    A sensor's report names any scanners it likes; only known ones become a label.
    """
    kind = next((name for name in scanners if name in _KNOWN_SCANNERS), "other")
    _scans.labels(kind, outcome).inc()


def waiting() -> AbstractContextManager[None]:
    """A request waits for a connection as long as this lasts."""
    return _pool_state("waiting").track_inprogress()


def count_lent(change: int) -> None:
    """A connection was lent to a request (1) or given back (-1)."""
    _pool_state("in_use").inc(change)


# A series is looked up once: as a rule that takes longer than to count.
_requests_like = cache(_requests.labels)
_durations_of = cache(_durations.labels)
_pool_state = cache(_pool.labels)
