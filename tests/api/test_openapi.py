"""GET /api/openapi.json: the document says what the service does, no less and no more."""

import json
from typing import Any

import jsonschema_rs
import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import validate

from harborguard.api import details, images, scans
from harborguard.api.openapi import make_document
from harborguard.model import Role
from tests.support import openapi as document
from tests.support.tenants import Tenants


def test_it_works(client: FlaskClient) -> None:
    response = client.get("/api/openapi.json")
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert response.json == make_document()
    assert make_document()["openapi"] == "3.1.0"
    validate(make_document())


def test_the_copy_is_current() -> None:
    assert document.COPY.read_text(encoding="utf-8") == document.render(), "run: make openapi"


def test_the_routes_are_those_of_the_document(app: Flask) -> None:
    routes = {
        (rule.rule.replace("<", "{").replace(">", "}"), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    told = {(path, method) for path, each in make_document()["paths"].items() for method in each}
    assert told == routes


def parameters(path: str, method: str = "get") -> dict[str, Any]:
    """What the document says of the parameters of a route."""
    operation = make_document()["paths"][path][method]
    return {each["name"]: each["schema"] for each in operation["parameters"]}


@pytest.mark.parametrize(
    ("query", "path", "method"),
    [
        (images._QUERY, "/api/images", "get"),
        (details._SUMMARY_QUERY, "/api/images/summary", "get"),
        (details._TAGS_QUERY, "/api/images/{image_id}/tags", "get"),
        (details._FINDINGS_QUERY, "/api/images/{image_id}/vulnerabilities", "get"),
        (scans._QUERY, "/api/scans/upload", "post"),
    ],
    ids=["list", "summary", "tags", "vulnerabilities", "upload"],
)
def test_a_view_takes_what_the_document_says(query: Any, path: str, method: str) -> None:
    names = {field.data_key or name for name, field in query.load_fields.items()}
    told = set(parameters(path, method))
    assert told - {"image_id", "If-None-Match"} == names


def test_bounds_and_defaults_are_told() -> None:
    told = parameters("/api/images")
    assert told["limit"] == {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}
    assert told["page"] == {"type": "integer", "minimum": 1, "maximum": 2**63 - 1, "default": 1}
    assert told["riskScore"] == {"type": "integer", "minimum": 0, "maximum": 100}
    assert told["search"]["maxLength"] == 200
    assert (told["sort"]["default"], "riskScore:desc" in told["sort"]["examples"]) == (
        "createdAt:desc",
        True,
    )
    for pattern, good, bad in (
        (told["grade"]["pattern"], ["", "A", "a, D,,", ","], ["E", "AB", "A;B"]),
        (parameters("/api/images/{image_id}/vulnerabilities")["severity"]["pattern"],
         ["", "LOW,high", " unknown"], ["awful", "lowhigh"]),
    ):  # fmt: skip
        validator = jsonschema_rs.Draft202012Validator({"pattern": pattern})
        assert all(map(validator.is_valid, good))
        assert not any(map(validator.is_valid, bad))


def test_the_three_schemes_are_told() -> None:
    made = make_document()
    assert set(made["components"]["securitySchemes"]) == {"apiKey", "bearer", "session"}
    upload = made["paths"]["/api/scans/upload"]["post"]
    assert upload["security"] == [{"apiKey": []}, {"bearer": []}]
    assert made["paths"]["/api/health"]["get"]["security"] == []


@pytest.mark.parametrize(
    ("path", "method"), [(p, m) for p, each in make_document()["paths"].items() for m in each]
)
def test_who_may_is_as_told(app: Flask, path: str, method: str) -> None:
    """A route answers 401 without a credential exactly where the document says it can."""
    url = path.format(image_id="img-1", name="init.js")
    status = app.test_client().open(url, method=method, buffered=True).status_code
    operation = make_document()["paths"][path][method]
    assert (status == 401) == bool(operation["security"]) == ("401" in operation["responses"])


def test_the_examples_are_right(client: FlaskClient, tenants: Tenants) -> None:
    content = make_document()["paths"]["/api/scans/upload"]["post"]["requestBody"]["content"]
    told = content["application/json"]
    document.validator(told["schema"]).validate(told["example"])
    response = client.post(
        "/api/scans/upload",
        data=json.dumps(told["example"]),
        content_type="application/json",
        headers={"X-API-Key": tenants.acme.add_key(Role.CI)},
    )
    assert response.status_code == 201


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'{"data":[],"meta":{},"links":{}}'),
        (200, b'{"data":{"status":"ok"},"more":1}'),
        (418, b"{}"),
        (401, b'{"error":{"code":"ODD","message":""}}'),
    ],
)
def test_a_wrong_answer_would_be_found(status: int, body: bytes) -> None:
    with pytest.raises((AssertionError, ValueError)):
        document.check("GET", "/api/images", status, "application/json", body)
