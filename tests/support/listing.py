"""Requests to GET /api/images, for tests that send many."""

from typing import Any
from urllib.parse import urlencode

from flask.testing import FlaskClient

from tests.support.tenants import Tenant


def list_images(client: FlaskClient, tenant: Tenant, **parameters: object) -> dict[str, Any]:
    """Return the body of a page; the response must be 200."""
    query = urlencode(parameters)
    response = client.get(f"/api/images?{query}", headers=tenant.headers)
    assert response.status_code == 200, response.data
    return response.json  # pyright: ignore[reportReturnType]


def list_names(client: FlaskClient, tenant: Tenant, **parameters: object) -> list[str]:
    """Return the last path segment of each image's name, in the order of the page."""
    body = list_images(client, tenant, **parameters)
    return [row["name"].rpartition("/")[2] for row in body["data"]]


def list_issues(client: FlaskClient, tenant: Tenant, query: str) -> dict[str, str]:
    """Return the issues of an invalid query, message by path; the response must be 400."""
    response = client.get(f"/api/images?{query}", headers=tenant.headers)
    assert response.status_code == 400, (query, response.data)
    error = response.json["error"]
    assert error["code"] == "BAD_REQUEST"
    assert error["message"] == "The query is not valid."
    return {issue["path"]: issue["message"] for issue in error["issues"]}
