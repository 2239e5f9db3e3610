"""What is noticed of every request: its id, one line in the log, and the metrics."""

import re
import secrets
from time import perf_counter

import structlog
from flask import Flask, Response, g, request

from harborguard.observability import metrics
from harborguard.observability.logs import REQUEST_ID

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_QUIET = frozenset({"/api/health", "/api/ready"})

log = structlog.get_logger()


def observe_requests(app: Flask) -> None:
    """Hangs the hooks on an application; they see every request, matched or not."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.began_at = perf_counter()
    given = request.headers.get("X-Request-ID", "")
    REQUEST_ID.set(given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8))


def _end(response: Response) -> Response:
    seconds = perf_counter() - g.began_at
    rule = request.url_rule
    route = rule.rule if rule else "unmatched"
    response.headers["X-Request-ID"] = REQUEST_ID.get()
    method = request.method
    metrics.count_request(route, method, response.status_code, seconds)
    tell = log.debug if route in _QUIET else log.info
    tell("request", **_describe(response, method, route, seconds))
    # The last thing that is done for a request, after what auth does once the answer is out.
    response.call_on_close(lambda: REQUEST_ID.set(""))
    return response


def _describe(response: Response, method: str, route: str, seconds: float) -> dict[str, object]:
    told: dict[str, object] = {
        "method": method,
        "route": route,
        "status": response.status_code,
        "duration_ms": round(seconds * 1000, 2),
        "client": request.remote_addr or "",
    }
    if principal := g.get("principal"):
        told |= {"principal_kind": principal.kind, "principal_id": principal.id}
    if (rows := g.get("rows")) is not None:
        told["rows"] = rows
    if refused := g.get("refused"):
        told["refused"] = refused
    return told
