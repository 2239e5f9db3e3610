"""Per request: an id, one log line and the metrics."""

import re
import secrets
from time import perf_counter

import structlog
from flask import Flask, Response, g, request

from harborguard.observability import metrics
from harborguard.observability.logs import REQUEST_ID

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
# Load balancers and health checks poll these paths; their requests are logged at level debug.
_POLLED_PATHS = frozenset({"/api/health", "/api/ready"})

log = structlog.get_logger()


def observe_requests(app: Flask) -> None:
    """Register the hooks. They run for every request, including those that match no route."""
    app.before_request(_start_request)
    app.after_request(_finish_request)


def _start_request() -> None:
    g.started_at = perf_counter()
    request_id = request.headers.get("X-Request-ID", "")
    REQUEST_ID.set(request_id if _REQUEST_ID.fullmatch(request_id) else secrets.token_hex(8))


def _finish_request(response: Response) -> Response:
    seconds = perf_counter() - g.started_at
    rule = request.url_rule
    route = rule.rule if rule else "unmatched"
    response.headers["X-Request-ID"] = REQUEST_ID.get()
    method = request.method
    metrics.count_request(route, method, response.status_code, seconds)
    write = log.debug if route in _POLLED_PATHS else log.info
    write("request", **_log_fields(response, method, route, seconds))
    # Registered last, so it runs after the callbacks that still log under this id.
    response.call_on_close(lambda: REQUEST_ID.set(""))
    return response


def _log_fields(response: Response, method: str, route: str, seconds: float) -> dict[str, object]:
    fields: dict[str, object] = {
        "method": method,
        "route": route,
        "status": response.status_code,
        "duration_ms": round(seconds * 1000, 2),
        "client": request.remote_addr or "",
    }
    if principal := g.get("principal"):
        fields |= {"principal_kind": principal.kind, "principal_id": principal.id}
    if (rows := g.get("rows")) is not None:
        fields["rows"] = rows
    if reason := g.get("rejection_reason"):
        fields["rejection_reason"] = reason
    return fields
