"""GET /api/openapi.json: the document describes exactly what the service does."""

import json
from typing import Any

import jsonschema_rs
import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import validate

from app import create_app
from harborguard.api.errors import STATUSES
from harborguard.config import Config
from harborguard.model import Role
from tests.support.openapi import check_response, load_document, make_validator
from tests.support.tenants import Tenants
from tests.tools.openapi import COPY, render

OPERATIONS = [
    (path, method, operation)
    for path, operations in load_document()["paths"].items()
    for method, operation in operations.items()
]
IDS = [operation["operationId"] for _, _, operation in OPERATIONS]
QUERIES = {
    operation["operationId"]: {
        each["name"] for each in operation["parameters"] if each["in"] == "query"
    }
    for _, _, operation in OPERATIONS
}
each_operation = pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=IDS)


def make_url(path: str) -> str:
    """Return a path with values for its parameters."""
    return path.format(image_id="img-1", scan_id="scan-1", registry_id="reg-1", name="init.js")


def test_document_is_valid_openapi(client: FlaskClient) -> None:
    response = client.get("/api/openapi.json")
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert response.json == load_document()
    assert client.get("/api/openapi.json").data == response.data
    assert load_document()["openapi"] == "3.1.0"
    validate(load_document())


def test_document_copy_is_current() -> None:
    assert COPY.read_text(encoding="utf-8") == render(), "run: make openapi"


def test_document_has_every_route_and_no_other(app: Flask) -> None:
    routes = {
        (rule.rule.replace("<", "{").replace(">", "}"), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, method, _ in OPERATIONS} == routes


def test_operations_have_method_names_tags_and_summaries() -> None:
    assert sorted(IDS) == [
        "deleteImage",
        "deleteScan",
        "exportImageList",
        "getDocsFile",
        "getDocsPage",
        "getHealth",
        "getImage",
        "getOpenApiDocument",
        "getPageFile",
        "getReadiness",
        "getRegistry",
        "getService",
        "listAuditLog",
        "listImageChanges",
        "listImages",
        "listRegistries",
        "listTags",
        "listVulnerabilities",
        "lookUpImage",
        "searchVulnerabilities",
        "summarizeImages",
        "uploadScan",
    ]
    tags = {tag["name"] for tag in load_document()["tags"] if tag["description"]}
    assert {tag for _, _, operation in OPERATIONS for tag in operation["tags"]} == tags
    for _, _, operation in OPERATIONS:
        assert operation["summary"].endswith(".")
    assert load_document()["servers"] == [{"url": "/"}]


def parameters(path: str) -> dict[str, Any]:
    """Return the schemas of the parameters of GET on a path."""
    operation = load_document()["paths"][path]["get"]
    return {each["name"]: each["schema"] for each in operation["parameters"]}


@pytest.mark.parametrize(
    ("path", "method", "operation"),
    [each for each in OPERATIONS if QUERIES[each[2]["operationId"]]],
    ids=[name for name in IDS if QUERIES[name]],
)
def test_view_reads_exactly_the_documented_parameters(
    client: FlaskClient, tenants: Tenants, path: str, method: str, operation: dict[str, Any]
) -> None:
    """A view rejects each parameter that it knows if it is given twice, and ignores others."""
    names = sorted(set().union(*QUERIES.values()))
    response = client.open(
        make_url(path),
        method=method,
        query_string=[(name, "1") for name in names for _ in range(2)],
        headers={"X-API-Key": tenants.acme.add_key(Role.OWNER)},
    )
    assert response.status_code == 400
    known = {issue["path"] for issue in response.json["error"]["issues"]}
    assert known == QUERIES[operation["operationId"]]


def test_parameters_have_bounds_and_defaults() -> None:
    schemas = parameters("/api/images")
    assert schemas["limit"] == {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}
    assert schemas["page"] == {"type": "integer", "minimum": 1, "maximum": 2**63 - 1, "default": 1}
    assert schemas["riskScore"] == {"type": "integer", "minimum": 0, "maximum": 100}
    assert schemas["search"]["maxLength"] == 200
    assert (schemas["sort"]["default"], "riskScore:desc" in schemas["sort"]["examples"]) == (
        "createdAt:desc",
        True,
    )
    for pattern, valid, invalid in (
        (schemas["grade"]["pattern"], ["", "A", "a, D,,", ","], ["E", "AB", "A;B"]),
        (parameters("/api/images/{image_id}/vulnerabilities")["severity"]["pattern"],
         ["", "LOW,high", " unknown"], ["awful", "lowhigh"]),
        (schemas["scanned"]["pattern"], ["never", "STALE"], ["", "old", "never,stale"]),
        (parameters("/api/audit-log")["action"]["pattern"],
         ["", "image.deleted", "MEMBER.role_changed, apikey.created"], ["imageXdeleted", "image"]),
    ):  # fmt: skip
        validator = jsonschema_rs.Draft202012Validator({"pattern": pattern})
        assert all(map(validator.is_valid, valid))
        assert not any(map(validator.is_valid, invalid))


def test_document_has_the_three_security_schemes() -> None:
    document = load_document()
    assert set(document["components"]["securitySchemes"]) == {"apiKey", "bearer", "session"}
    upload = document["paths"]["/api/scans/upload"]["post"]
    assert upload["security"] == [{"apiKey": []}, {"bearer": []}]
    assert document["paths"]["/api/health"]["get"]["security"] == []


@each_operation
def test_route_needs_a_credential_where_documented(
    app: Flask, path: str, method: str, operation: dict[str, Any]
) -> None:
    response = app.test_client().open(make_url(path), method=method, buffered=True)
    is_rejected = response.status_code == 401
    assert is_rejected == bool(operation["security"]) == ("401" in operation["responses"])
    assert is_rejected == (operation["x-required-role"] != "none")


@each_operation
def test_role_that_is_not_documented_returns_403(
    client: FlaskClient, tenants: Tenants, path: str, method: str, operation: dict[str, Any]
) -> None:
    required = operation["x-required-role"]
    roles = required.split(", ")
    for role in Role:
        response = client.open(
            make_url(path),
            method=method,
            headers={"X-API-Key": tenants.acme.add_key(role)},
            buffered=True,
        )
        if len(roles) > 1:
            is_forbidden = role not in roles
        else:
            is_forbidden = required != "none" and role.level < Role(required).level
        assert (response.status_code == 403) == is_forbidden, role


def test_rate_limit_of_the_upload_is_the_configured_one() -> None:
    app = create_app(Config(new_scans_per_minute=7))
    paths = app.test_client().get("/api/openapi.json").json["paths"]
    limits = {
        operation["operationId"]: operation["x-rate-limit"]
        for operations in paths.values()
        for operation in operations.values()
        if "x-rate-limit" in operation
    }
    limit = {
        "limit": 7,
        "seconds": 60,
        "counts": "new scans; replays do not count",
        "scope": "API key and worker process",
    }
    assert limits == {"uploadScan": limit}
    assert "429" in paths["/api/scans/upload"]["post"]["responses"]


@each_operation
def test_example_of_a_response_is_valid(path: str, method: str, operation: dict[str, Any]) -> None:
    for response in operation["responses"].values():
        content = response.get("content", {}).get("application/json")
        if content and "example" in content:
            make_validator(content["schema"]).validate(content["example"])
        else:
            assert (
                "$ref" in response
                or path.startswith(("/api/docs", "/api/openapi", "/api/images/export", "/page"))
                or response["description"] in {"Not Modified", "No Content"}
            )


def test_examples_of_errors_are_valid_for_every_code() -> None:
    examples = {
        code: (int(_status_of(name)), example["value"])
        for name, response in load_document()["components"]["responses"].items()
        for code, example in response["content"]["application/json"]["examples"].items()
    }
    assert {code: status for code, (status, _) in examples.items()} == STATUSES
    for code, (_, body) in examples.items():
        make_validator({"$ref": "#/components/schemas/ErrorResponse"}).validate(body)
        assert body["error"]["code"] == code


def _status_of(name: str) -> str:
    """Return the status of the responses that refer to a component."""
    reference = {"$ref": f"#/components/responses/{name}"}
    found = {
        status
        for _, _, operation in OPERATIONS
        for status, response in operation["responses"].items()
        if response == reference
    }
    # Every method that has a route is documented, so no operation refers to 405.
    return found.pop() if found else "405"


def test_example_of_the_upload_is_recorded(client: FlaskClient, tenants: Tenants) -> None:
    content = load_document()["paths"]["/api/scans/upload"]["post"]["requestBody"]["content"]
    schema, example = content["application/json"]["schema"], content["application/json"]["example"]
    make_validator(schema).validate(example)
    response = client.post(
        "/api/scans/upload",
        data=json.dumps(example),
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
def test_check_response_raises_for_an_undocumented_response(status: int, body: bytes) -> None:
    with pytest.raises((AssertionError, ValueError)):
        check_response("GET", "/api/images", status, "application/json", body)
