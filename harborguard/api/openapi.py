"""GET /api/openapi.json, and the decorator `documented`, which describes a view.

The path and the method come from the URL map, the operation's id from the view's name, its summary
and description from the view's docstring, its role from `require`, the rest from `documented`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from inspect import getdoc
from typing import Any, TypeVar

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Blueprint, Flask, current_app
from marshmallow import Schema, fields

import harborguard
from harborguard.api.auth import Requirement
from harborguard.api.errors import STATUSES, ErrorResponse
from harborguard.api.fields import DescribedField
from harborguard.api.responses import ENUMERATIONS, AnyOf
from harborguard.api.services import services
from harborguard.config import Config

Headers = Mapping[str, str]
View = TypeVar("View", bound=Callable[..., Any])

blueprint = Blueprint("openapi", __name__, url_prefix="/api")

_INFO = {
    "description": (
        "The inventory of an organization's container images and their vulnerabilities. If a"
        " request has several credentials, X-API-Key decides, then Authorization: Bearer, then the"
        " session cookie."
    ),
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}
_TAGS = {
    "images": "The images of the caller's organization, their tags and their vulnerabilities.",
    "scans": "Scan reports.",
    "registries": "The registries of the caller's organization.",
    "audit": "The audit log of the caller's organization.",
    "service": "The service itself: health, readiness and documentation. No credential is needed.",
}
_SECURITY_SCHEMES = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "session": {"type": "apiKey", "in": "cookie", "name": "next-auth.session-token"},
}
_IGNORED_PARAMETERS = {
    "X-Ignored-Parameters": (
        "Sorted names of the query parameters that were not understood: unknown names, and `sort`"
        " with an unknown value. It is absent if there are none."
    )
}
_ERROR_HEADERS: Mapping[int, Headers] = {
    400: _IGNORED_PARAMETERS,
    401: {"WWW-Authenticate": "The authentication scheme, `Bearer`."},
    429: {"Retry-After": "Seconds to wait."},
    503: {"Retry-After": "Seconds to wait."},
}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """Decorator that documents a view, in addition to its route, name, docstring and role.

    `responses` maps a status to a schema, to media types, or to None if there is no body.
    `other_media_types` are those that a response with a schema can have instead of JSON.
    `errors` are statuses in addition to those that follow from the query, the body, the role and
    the rate limit.
    """

    tag: str
    responses: Mapping[int, type[Schema] | Sequence[str] | None]
    other_media_types: Sequence[str] = ()
    errors: Sequence[int] = ()
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    query: type[Schema] | None = None
    request_headers: Headers = field(default_factory=dict)
    response_headers: Headers = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    example: Mapping[str, Any] | None = None
    new_scans_per_minute: Callable[[Config], int] | None = None

    def __call__(self, view: View) -> View:
        """Attach the operation to a view and return the view."""
        vars(view)["operation"] = self
        return view


documented = Operation


@blueprint.get("/openapi.json")
@documented(tag="service", responses={200: ["application/json"]})
def get_open_api_document() -> dict[str, Any]:
    """Return this document."""
    document = services().openapi_document
    if not document:
        document.update(make_document(current_app))
    return document


def make_document(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of an application."""
    plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
    spec = APISpec(
        "HarborGuard Images",
        harborguard.__version__,
        "3.1.0",
        [plugin],
        info=_INFO,
        servers=[{"url": "/"}],
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
    )
    if plugin.converter:
        plugin.converter.add_attribute_function(_describe_field)
    for name, scheme in _SECURITY_SCHEMES.items():
        spec.components.security_scheme(name, scheme)
    for words in ENUMERATIONS:
        schema = {"type": "string", "enum": [word.value for word in words]}
        spec.components.schema(words.__name__, schema)
    for status in sorted(set(STATUSES.values())):
        spec.components.response(_error_name(status), _error_response_object(status))
    config = app.extensions["harborguard"].config
    paths: dict[str, dict[str, Any]] = {}
    for path, method, view in _documented_views(app):
        paths.setdefault(path, {})[method] = _operation_object(view, config)
    for path, operations in paths.items():
        spec.path(path, operations=operations)
    return spec.to_dict()


def _documented_views(app: Flask) -> Iterable[tuple[str, str, Callable[..., Any]]]:
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        if "operation" in vars(view):
            path = re.sub("<(.+?)>", r"{\1}", rule.rule)
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield path, method.lower(), view


def _schema_name(schema: type[Schema] | Schema) -> str:
    return (schema if isinstance(schema, type) else type(schema)).__name__


def _describe_field(converter: Any, field: fields.Field[Any], **_: Any) -> dict[str, Any]:
    if isinstance(field, AnyOf):
        return {"anyOf": [converter.resolve_nested_schema(each) for each in field.schemas]}
    return field.describe() if isinstance(field, DescribedField) else {}


def _operation_object(view: Callable[..., Any], config: Config) -> dict[str, Any]:
    operation: Operation = vars(view)["operation"]
    requirement: Requirement | None = vars(view).get("requirement")
    summary, _, description = (getdoc(view) or "").partition("\n")
    first, *others = view.__name__.split("_")
    result: dict[str, Any] = {
        "operationId": first + "".join(word.title() for word in others),
        "tags": [operation.tag],
        "summary": summary,
        "description": " ".join([*description.split(), *_describe_access(requirement)]),
        "parameters": _parameters(operation),
        "security": [{scheme: []} for scheme in _security(requirement)],
        "x-required-role": requirement.name if requirement else "none",
        "responses": {
            **{status: _response_object(operation, status) for status in operation.responses},
            **{status: _error_name(status) for status in _errors(operation, requirement)},
        },
    }
    if operation.new_scans_per_minute:
        result["x-rate-limit"] = {
            "limit": operation.new_scans_per_minute(config),
            "seconds": 60,
            "counts": "new scans; replays do not count",
            "scope": "API key and worker process",
        }
    if operation.body:
        content = {"schema": operation.body, "example": operation.example}
        result["requestBody"] = {"required": True, "content": {"application/json": content}}
    return result


def _describe_access(requirement: Requirement | None) -> list[str]:
    if requirement is None:
        return ["No credential is needed."]
    only_keys = ["Only API keys are accepted."] if requirement.api_key_only else []
    return [requirement.sentence, *only_keys]


def _security(requirement: Requirement | None) -> list[str]:
    if requirement is None:
        return []
    return ["apiKey", "bearer"] if requirement.api_key_only else list(_SECURITY_SCHEMES)


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    path = _plain_parameters("path", operation.path_parameters, required=True)
    query = [{"in": "query", "schema": operation.query}] if operation.query else []
    return [*path, *query, *_plain_parameters("header", operation.request_headers)]


def _plain_parameters(
    location: str, descriptions: Mapping[str, str], *, required: bool = False
) -> list[dict[str, Any]]:
    return [
        {
            "in": location,
            "name": name,
            "description": text,
            "required": required,
            "schema": {"type": "string"},
        }
        for name, text in descriptions.items()
    ]


def _response_object(operation: Operation, status: int) -> dict[str, Any]:
    body = operation.responses[status]
    response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if isinstance(body, type):
        content = {"schema": body, "example": _example_of(body())}
        response["content"] = {
            "application/json": content,
            **_plain_content(operation.other_media_types),
        }
    elif body is not None:
        response["content"] = _plain_content(body)
    ignored = _IGNORED_PARAMETERS if operation.query else {}
    if headers := {**operation.response_headers, **ignored}:
        response["headers"] = _headers(headers)
    return response


def _plain_content(media_types: Sequence[str]) -> dict[str, Any]:
    return {media_type: {"schema": {"type": _type_of(media_type)}} for media_type in media_types}


def _type_of(media_type: str) -> str:
    return "object" if media_type == "application/json" else "string"


def _example_of(schema: Schema) -> dict[str, Any]:
    """Return an example of the schema: the first example of each field that has one."""
    examples = {each.data_key: _examples_of(each) for each in schema.fields.values()}
    return {key: found[0] for key, found in examples.items() if key and found}


def _examples_of(field: fields.Field[Any]) -> list[Any]:
    match field:
        case fields.Nested():
            return [_example_of(field.schema)]
        case fields.List():
            return [_examples_of(field.inner)]
        case AnyOf():
            return [_example_of(schema()) for schema in field.schemas]
        case _:
            return field.metadata.get("examples", [])


def _errors(operation: Operation, requirement: Requirement | None) -> list[int]:
    errors = set(operation.errors)
    if operation.query or operation.body:
        errors |= {400}
    if requirement:
        errors |= {401, 403, 429, 500, 503, 504}
    return sorted(errors)


def _error_name(status: int) -> str:
    return HTTPStatus(status).name.title().replace("_", "")


def _error_response_object(status: int) -> dict[str, Any]:
    codes = [code for code in STATUSES if STATUSES[code] == status]
    examples = {code: {"value": _example_error(code)} for code in codes}
    content = {"schema": ErrorResponse, "examples": examples}
    response: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}.",
        "content": {"application/json": content},
    }
    if status in _ERROR_HEADERS:
        response["headers"] = _headers(_ERROR_HEADERS[status])
    return response


def _example_error(code: str) -> dict[str, Any]:
    message, *issue = _EXAMPLE_ERRORS[code]
    issues = {"issues": [dict(zip(("path", "message"), issue, strict=True))]} if issue else {}
    return {"error": {"code": code, "message": message, **issues}}


_EXAMPLE_ERRORS = {
    "BAD_REQUEST": ("The query is not valid.", "limit", "must be an integer from 1 to 200"),
    "VALIDATION_ERROR": (
        "The report is invalid at scan.id: is required.",
        "scan.id",
        "is required",
    ),
    "UNAUTHORIZED": ("A valid API key, personal access token or session is required.",),
    "FORBIDDEN": ("The role ci or higher is required.",),
    "NOT_FOUND": ("Image not found.",),
    "METHOD_NOT_ALLOWED": ("The method is not allowed for the requested URL.",),
    "CONFLICT": ("Scan b7c1e0f2-nightly is already recorded with other content.",),
    "GONE": (
        "The findings of scan scan-3f2a9c0d71e84b55 were deleted when a newer scan superseded it. "
        "Upload its report again to restore them.",
    ),
    "PAYLOAD_TOO_LARGE": ("The body is larger than 67108864 bytes.",),
    "UNSUPPORTED_MEDIA_TYPE": ("The Content-Type must be application/json.",),
    "RATE_LIMITED": ("At most 1200 new scans per minute are allowed.",),
    "INTERNAL_ERROR": ("The service failed to process the request.",),
    "SERVICE_UNAVAILABLE": ("The database is not available; try again shortly.",),
    "TIMEOUT": ("The database took too long to respond.",),
}


def _headers(descriptions: Headers) -> dict[str, Any]:
    return {
        name: {"description": text, "schema": {"type": "string"}}
        for name, text in descriptions.items()
    }
