"""Short ways to ask the list, for tests that ask it often."""

from typing import Any
from urllib.parse import urlencode

from flask.testing import FlaskClient

from tests.support.tenants import Tenant


def ask(client: FlaskClient, member: Tenant, **parameters: object) -> dict[str, Any]:
    """The body of a listing that must succeed."""
    query = urlencode(parameters)
    response = client.get(f"/api/images?{query}", headers=member.headers)
    assert response.status_code == 200, response.data
    return response.json  # pyright: ignore[reportReturnType]


def names(client: FlaskClient, member: Tenant, **parameters: object) -> list[str]:
    """The names listed, without their registry and first path segment, in order."""
    body = ask(client, member, **parameters)
    return [row["name"].rpartition("/")[2] for row in body["data"]]


def refusal(client: FlaskClient, member: Tenant, query: str) -> dict[str, str]:
    """What a bad query is told: path -> message; it must be a 400 in the envelope."""
    response = client.get(f"/api/images?{query}", headers=member.headers)
    assert response.status_code == 400, (query, response.data)
    error = response.json["error"]
    assert error["code"] == "BAD_REQUEST"
    assert error["message"] == "The query is not valid."
    return {issue["path"]: issue["message"] for issue in error["issues"]}
