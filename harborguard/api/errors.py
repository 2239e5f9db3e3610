"""Error responses: the table of codes and statuses, and the envelope (contract 3)."""

import structlog
from flask import Flask, Response
from marshmallow import fields
from werkzeug.exceptions import HTTPException

from harborguard.api.request_body import discard_body
from harborguard.api.responses import ResponseSchema, json_response, one_of, text
from harborguard.api.services import services
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
    "GONE": 410,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "RATE_LIMITED": 429,
    "INTERNAL_ERROR": 500,
    "SERVICE_UNAVAILABLE": 503,
    "TIMEOUT": 504,
}
_CODES = {status: code for code, status in STATUSES.items() if code != "VALIDATION_ERROR"}
_HEADERS = {
    "UNAUTHORIZED": {"WWW-Authenticate": "Bearer"},
    "SERVICE_UNAVAILABLE": {"Retry-After": "2"},
}
_INTERNAL_ERROR = "The service failed to process the request."
_NO_SUCH_PATH = "The path does not exist."

log = structlog.get_logger()


class ErrorIssue(ResponseSchema):
    """A problem with one field: a query parameter or a JSON path."""

    path = text("limit")
    message = text("must be an integer from 1 to 200")


class ErrorBody(ResponseSchema):
    """The code, for programs, and the message, for people."""

    code = one_of(STATUSES, "BAD_REQUEST")
    message = text("The query is not valid.")
    issues = fields.List(fields.Nested(ErrorIssue))


class ErrorResponse(ResponseSchema):
    """The envelope of errors. A conflict has the `scanId` of a recorded scan that is visible."""

    error = fields.Nested(ErrorBody, required=True)
    scan_id = fields.String()


def register_error_handlers(app: Flask) -> None:
    """Register the handlers that turn exceptions into error responses."""
    app.register_error_handler(HarborGuardError, _error_response)
    app.register_error_handler(HTTPException, _http_error_response)
    app.register_error_handler(Exception, _unexpected_error_response)


def _error_response(error: HarborGuardError) -> Response:
    if error.code == "INTERNAL_ERROR":
        log.error("internal error", error=error.message)
        error = HarborGuardError(_INTERNAL_ERROR)
    return _make_response(error)


def _make_response(error: HarborGuardError) -> Response:
    error_body: dict[str, object] = {"code": error.code, "message": error.message}
    if error.issues:
        error_body["issues"] = [{"path": i.path, "message": i.message} for i in error.issues]
    body: dict[str, object] = {"error": error_body}
    discard_body(services().config.max_upload_bytes)
    if isinstance(error, Conflict) and error.scan_id:
        body["scanId"] = error.scan_id
    response = json_response(body)
    response.status_code = STATUSES[error.code]
    response.headers.update(_HEADERS.get(error.code, {}))
    if isinstance(error, RateLimited):
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _http_error_response(error: HTTPException) -> Response:
    """Return the response for an error of Werkzeug, with the error's status and Allow header."""
    status = error.code or 500
    code = _CODES.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")
    message = _NO_SUCH_PATH if code == "NOT_FOUND" else error.description
    discard_body(services().config.max_upload_bytes)
    response = json_response({"error": {"code": code, "message": message}})
    response.status_code = STATUSES[code]
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


def _unexpected_error_response(error: Exception) -> Response:
    """Return the response for a known database error, or 500 for any other exception."""
    translated = translate_error(error)
    if translated is None:
        log.error("unexpected error", exc_info=error)
        return _make_response(HarborGuardError(_INTERNAL_ERROR))
    log.warning("database error", error=type(error).__name__)
    return _error_response(translated)
