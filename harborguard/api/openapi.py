"""GET /api/openapi.json: the document, made from the schemas that the views use."""

import re
from collections.abc import Callable
from enum import StrEnum
from functools import cache
from http import HTTPStatus
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Blueprint
from marshmallow import Schema, fields

import harborguard
from harborguard.api import answers
from harborguard.api.detail_schemas import Flag
from harborguard.api.errors import STATUSES
from harborguard.api.operations import OPERATIONS, Operation
from harborguard.api.schemas import SortOrder, StrictInteger, Text, WordList

blueprint = Blueprint("openapi", __name__)

_SECURITY = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "session": {"type": "apiKey", "in": "cookie", "name": "next-auth.session-token"},
}
_ANSWER_HEADERS = {
    401: {"WWW-Authenticate": "Bearer."},
    429: {"Retry-After": "Seconds to wait."},
    503: {"Retry-After": "Seconds to wait."},
}
_ABOUT = (
    "An organization's container images and their vulnerabilities. Of the credentials sent, "
    "X-API-Key decides, else Authorization: Bearer, else the session cookie."
)
# Category Cc of Unicode: what a text may not hold.
_PLAIN = r"^[^\u0000-\u001f\u007f-\u009f]*$"


@blueprint.get("/openapi.json")
def openapi() -> dict[str, Any]:
    """The OpenAPI document."""
    return make_document()


@cache
def make_document() -> dict[str, Any]:
    """The OpenAPI 3.1 document of this release; the same whatever the configuration."""
    plugin = MarshmallowPlugin(schema_name_resolver=_name)
    info = {"description": _ABOUT, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}}
    version = harborguard.__version__
    spec = APISpec("HarborGuard Images", version, "3.1.0", [plugin], info=info)
    if plugin.converter:
        plugin.converter.add_attribute_function(_describe_field)
    for name, scheme in _SECURITY.items():
        spec.components.security_scheme(name, scheme)
    for status in sorted(set(STATUSES.values())):
        spec.components.response(_error(status), _refuse(status))
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _tell(operation)
    for path, methods in paths.items():
        spec.path(path, operations=methods)
    return spec.to_dict()


def _name(schema: type[Schema] | Schema) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return kind.__name__


def _describe_field(_converter: Any, field: fields.Field[Any], **_: Any) -> dict[str, Any]:
    describe = _FIELDS.get(type(field))
    return describe(field) if describe else {}


def _list_of(words: type[StrEnum]) -> str:
    items = "|".join("".join(f"[{c.upper()}{c.lower()}]" for c in word) for word in words)
    return rf"^ *({items})? *(, *({items})? *)*$"


# The bounds of the fields that are our own.
_FIELDS: dict[type, Callable[[Any], dict[str, Any]]] = {
    StrictInteger: lambda field: {
        "type": "integer",
        "minimum": field.least,
        "maximum": field.most,
    },
    Text: lambda field: {"type": "string", "maxLength": field.most, "pattern": _PLAIN},
    WordList: lambda field: {
        "type": "string",
        "pattern": _list_of(field.allowed),
        "examples": [",".join(list(field.allowed)[:2])],
    },
    Flag: lambda _: {"type": "string", "enum": ["true", "false"]},
    SortOrder: lambda field: {
        "type": "string",
        "examples": list(field.orders),
        "default": field.usual,
    },
}


def _tell(operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": "-".join(re.findall(r"\w+", f"{operation.method} {operation.path}")),
        "parameters": [*_list_parameters(operation)],
        "security": [{name: []} for name in operation.security],
        "responses": {
            **{status: _answer(operation, status) for status in operation.answers},
            **{status: _error(status) for status in sorted(operation.errors)},
        },
    }
    if operation.role:
        told["description"] = f"Least role: {operation.role}."
    if operation.body:
        content = {"schema": operation.body, "example": operation.example}
        told["requestBody"] = {"required": True, "content": {"application/json": content}}
    return told


def _list_parameters(operation: Operation) -> list[dict[str, Any]]:
    parts = [part for part in operation.path.split("/") if part.startswith("{")]
    path = [
        {"in": "path", "name": part[1:-1], "required": True, "schema": {"type": "string"}}
        for part in parts
    ]
    query = [{"in": "query", "schema": operation.query}] if operation.query else []
    headers = [
        {"in": "header", "name": name, "description": text, "schema": {"type": "string"}}
        for name, text in operation.request_headers.items()
    ]
    return [*path, *query, *headers]


def _answer(operation: Operation, status: int) -> dict[str, Any]:
    body = operation.answers[status]
    told: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if isinstance(body, str):
        told["content"] = {body: {"schema": {"type": "object"} if "json" in body else {}}}
    elif body is not None:
        told["content"] = {"application/json": {"schema": body}}
    if operation.answer_headers:
        told["headers"] = _headers(operation.answer_headers)
    return told


def _error(status: int) -> str:
    return HTTPStatus(status).name.title().replace("_", "")


def _refuse(status: int) -> dict[str, Any]:
    codes = [code for code, number in STATUSES.items() if number == status]
    examples = {
        code: {"value": {"error": {"code": code, "message": "What is wrong."}}} for code in codes
    }
    content = {"schema": answers.Error, "examples": examples}
    told: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}.",
        "content": {"application/json": content},
    }
    if status in _ANSWER_HEADERS:
        told["headers"] = _headers(_ANSWER_HEADERS[status])
    return told


def _headers(told: Any) -> dict[str, Any]:
    return {
        name: {"description": text, "schema": {"type": "string"}} for name, text in told.items()
    }
