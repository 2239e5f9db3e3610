"""Errors as clients see them: one table of codes and statuses, one envelope."""

import structlog
from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from harborguard.errors import Conflict, HarborGuardError, RateLimited
from harborguard.store.errors import translate_error

STATUSES = {
    "BAD_REQUEST": 400,
    "VALIDATION_ERROR": 400,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "CONFLICT": 409,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "RATE_LIMITED": 429,
    "INTERNAL_ERROR": 500,
    "SERVICE_UNAVAILABLE": 503,
    "TIMEOUT": 504,
}
_HEADERS = {
    "UNAUTHORIZED": {"WWW-Authenticate": "Bearer"},
    "SERVICE_UNAVAILABLE": {"Retry-After": "2"},
}
_OPAQUE = "Something went wrong on our side."
_CODES = {status: code for code, status in STATUSES.items() if code != "VALIDATION_ERROR"}

log = structlog.get_logger()


def register_error_handlers(app: Flask) -> None:
    """Whatever goes wrong while answering leaves in the envelope."""
    app.register_error_handler(HarborGuardError, _answer)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_unexpected)


def _answer(error: HarborGuardError) -> Response:
    if error.code == "INTERNAL_ERROR" and error.message != _OPAQUE:
        log.error("internal error", error=error.message)
        error = HarborGuardError(_OPAQUE)
    body: dict[str, object] = {"code": error.code, "message": error.message}
    if error.issues:
        body["issues"] = [{"path": i.path, "message": i.message} for i in error.issues]
    answer: dict[str, object] = {"error": body}
    if isinstance(error, Conflict) and error.scan_id:
        answer["scanId"] = error.scan_id
    response = jsonify(answer)
    response.status_code = STATUSES[error.code]
    response.headers.update(_HEADERS.get(error.code, {}))
    if isinstance(error, RateLimited):
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _answer_http(error: HTTPException) -> Response:
    """Werkzeug's own refusals keep their status and their Allow header."""
    status = error.code or 500
    code = _CODES.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")
    response = jsonify({"error": {"code": code, "message": error.description}})
    response.status_code = STATUSES[code]
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


def _answer_unexpected(error: Exception) -> Response:
    known = translate_error(error)
    if known is None:
        log.error("unexpected error", exc_info=error)
        known = HarborGuardError(_OPAQUE)
    else:
        log.warning("the database did not answer", error=type(error).__name__)
    return _answer(known)
