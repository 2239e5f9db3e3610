"""Validate responses against the OpenAPI document."""

import json
import re
from functools import cache
from typing import Any

import jsonschema_rs
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from harborguard.api.openapi import make_document
from harborguard.config import Config


class DocumentedClient(FlaskClient):
    """A test client that raises AssertionError or ValueError for an undocumented response."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        """Return the response to a request."""
        response = super().open(*args, **kwargs)
        request = response.request
        check_response(
            request.method, request.path, response.status_code, response.content_type, response.data
        )
        return response


@cache
def load_document() -> dict[str, Any]:
    """Return the document of an application with default settings."""
    return make_document(create_app(Config()))


def check_response(
    method: str, path: str, status: int, content_type: str | None, body: bytes
) -> None:
    """Raise AssertionError or ValueError if the document has no such response."""
    if method == "OPTIONS":
        return
    operation = find_operation("get" if method == "HEAD" else method.lower(), path)
    if operation is None:
        assert status in {404, 405}, (method, path, status)
        make_validator({"$ref": "#/components/schemas/ErrorResponse"}).validate(json.loads(body))
        return
    assert str(status) in operation["responses"], f"{method} {path}: {status} is not documented"
    content = resolve_response(operation["responses"][str(status)]).get("content")
    if content is None or method == "HEAD":
        assert not body
        return
    mimetype = (content_type or "").partition(";")[0]
    assert mimetype in content, f"{method} {path}: {mimetype}"
    if mimetype == "application/json":
        make_validator(content[mimetype]["schema"]).validate(json.loads(body))


def find_operation(method: str, path: str) -> dict[str, Any] | None:
    """Return the operation of a method and a path. A fixed path wins over one with a parameter."""
    for template, operations in sorted(load_document()["paths"].items(), key=lambda p: "{" in p[0]):
        if re.fullmatch(re.sub(r"\\?\{\w+\\?\}", "[^/]+", re.escape(template)), path, re.DOTALL):
            return operations.get(method)
    return None


def resolve_response(response: dict[str, Any]) -> dict[str, Any]:
    """Return a response, or the component that it refers to."""
    name = response.get("$ref", "").rpartition("/")[2]
    return load_document()["components"]["responses"][name] if name else response


def make_validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """Return a validator of a schema in the document."""
    return _make_validator(json.dumps(schema))


@cache
def _make_validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        {**json.loads(schema), "components": load_document()["components"]}
    )
