"""The OpenAPI document, held against answers; `python -m tests.support.openapi` writes docs/openapi.json."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from harborguard.api.openapi import make_document

COPY = Path(__file__).parents[2] / "docs" / "openapi.json"


class DocumentedClient(FlaskClient):
    """A test client that fails where an answer is not as the document says."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        """The answer to a request."""
        response = super().open(*args, **kwargs)
        request = response.request
        check(
            request.method, request.path, response.status_code, response.content_type, response.data
        )
        return response


def check(method: str, path: str, status: int, content_type: str | None, body: bytes) -> None:
    """Fails where the document does not foresee an answer, or foresees another body."""
    if method == "OPTIONS":
        return
    operation = find_operation("get" if method == "HEAD" else method.lower(), path)
    if operation is None:
        assert status in {404, 405}, (method, path, status)
        validator({"$ref": "#/components/schemas/Error"}).validate(json.loads(body))
        return
    assert str(status) in operation["responses"], f"{method} {path}: {status} is not documented"
    told = resolve(operation["responses"][str(status)])
    content = told.get("content")
    if content is None or method == "HEAD":
        assert not body
        return
    mimetype = (content_type or "").partition(";")[0]
    assert mimetype in content or "*/*" in content, f"{method} {path}: {mimetype}"
    if mimetype == "application/json":
        validator(content[mimetype]["schema"]).validate(json.loads(body))


def find_operation(method: str, path: str) -> dict[str, Any] | None:
    """What the document says of a method of a path; a fixed path wins over one with a parameter."""
    for template, operations in sorted(make_document()["paths"].items(), key=lambda p: "{" in p[0]):
        if re.fullmatch(re.sub(r"\\?\{\w+\\?\}", "[^/]+", re.escape(template)), path, re.DOTALL):
            return operations.get(method)
    return None


def resolve(response: dict[str, Any]) -> dict[str, Any]:
    """A response, where it is kept once for all."""
    name = response.get("$ref", "").rpartition("/")[2]
    return make_document()["components"]["responses"][name] if name else response


def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """What holds a body to a schema of the document."""
    return _validator(json.dumps(schema))


@cache
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    whole = {**json.loads(schema), "components": make_document()["components"]}
    return jsonschema_rs.Draft202012Validator(whole)


def render() -> str:
    """The document as the copy in docs has it."""
    return json.dumps(make_document(), indent=1, sort_keys=False, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    COPY.write_text(render(), encoding="utf-8")
