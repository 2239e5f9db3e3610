"""Routes without a credential: the service's name and version, its health and its readiness."""

from time import monotonic
from typing import Any

from flask import Blueprint, Response

import harborguard
from harborguard.api.conditional import CONDITION
from harborguard.api.openapi import documented
from harborguard.api.page import prefers_page, send_page
from harborguard.api.responses import ResponseSchema, data_of, json_response, one_of, text
from harborguard.api.services import read, services
from harborguard.errors import StoreUnavailable
from harborguard.store.migrations import schema_state

blueprint = Blueprint("health", __name__)


class ServiceResponse(ResponseSchema):
    """The service's name and version, and the paths of its resources."""

    name = text("HarborGuard Images")
    version = text(harborguard.__version__)
    documentation = text("/api/docs", allow_none=True)
    openapi = text("/api/openapi.json")
    images = text("/api/images")


class HealthResponse(ResponseSchema):
    """`ok` if the process serves requests, `ready` if it can also use the database."""

    status = one_of(["ok", "ready"], "ok")


@blueprint.get("/")
@documented(
    tag="service",
    request_headers=CONDITION,
    responses={200: data_of(ServiceResponse), 304: None},
    other_media_types=["text/html"],
)
def get_service() -> Response:
    """Return the service's name, its version and the paths of its documentation.

    If `Accept` prefers HTML and the operator has not switched it off, return the page for people.
    """
    config = services().config
    if config.page and prefers_page():
        response = send_page()
    else:
        response = json_response(
            {
                "data": {
                    "name": "HarborGuard Images",
                    "version": harborguard.__version__,
                    "documentation": "/api/docs" if config.docs else None,
                    "openapi": "/api/openapi.json",
                    "images": "/api/images",
                }
            }
        )
    response.vary.add("Accept")
    return response


@blueprint.get("/api/health")
@documented(tag="service", responses={200: data_of(HealthResponse)})
def get_health() -> dict[str, Any]:
    """Return 200 if the process serves requests."""
    return {"data": {"status": "ok"}}


@blueprint.get("/api/ready")
@documented(tag="service", responses={200: data_of(HealthResponse)}, errors=[500, 503, 504])
def get_readiness() -> dict[str, Any]:
    """Return 200 if the database is reachable and has the schema that this release needs."""
    readiness = services().readiness
    # Load balancers may poll often; the result of a check is used for a second. An error is not
    # kept: while the database is unavailable, each request checks again.
    if monotonic() > readiness.valid_until:
        readiness.is_current = not read(schema_state).pending
        readiness.valid_until = monotonic() + 1
    if not readiness.is_current:
        raise StoreUnavailable("The database's schema is older than this release.")
    return {"data": {"status": "ready"}}
