"""GET /api/registries and /api/registries/{id} (contract 8.13)."""

from flask import Blueprint, Response, g, request

from harborguard.api.auth import require
from harborguard.api.conditional import BODY_ETAG, CONDITION, conditional_response
from harborguard.api.openapi import documented
from harborguard.api.pagination import page_of, page_response
from harborguard.api.queries import ListRegistriesQuery, parse_query
from harborguard.api.responses import RegistrySummaryResponse, data_of, serialize_registry
from harborguard.api.services import read
from harborguard.model import Role
from harborguard.store.images import registries

blueprint = Blueprint("registries", __name__, url_prefix="/registries")

_QUERY = ListRegistriesQuery()


@blueprint.get("")
@require(Role.VIEWER)
@documented(
    tag="registries",
    query=ListRegistriesQuery,
    request_headers=CONDITION,
    responses={200: page_of(RegistrySummaryResponse), 304: None},
    response_headers=BODY_ETAG,
)
def list_registries() -> Response:
    """List registries with the numbers of their images, ordered by host."""
    criteria, page = parse_query(_QUERY, request.args)
    scope = g.principal.scope
    listing = read(lambda conn: registries.list_registries(conn, scope, page))
    rows = [serialize_registry(registry) for registry in listing.items]
    parameters = _QUERY.to_parameters(criteria, page)
    return conditional_response(page_response(rows, listing.total, page, parameters))


@blueprint.get("/<registry_id>")
@require(Role.VIEWER)
@documented(
    tag="registries",
    path_parameters={"registry_id": "The `registryId` of an image in the list."},
    request_headers=CONDITION,
    responses={200: data_of(RegistrySummaryResponse), 304: None},
    response_headers=BODY_ETAG,
    errors=[404],
)
def get_registry(registry_id: str) -> Response:
    """Return a registry with the numbers of its images."""
    scope = g.principal.scope
    registry = read(lambda conn: registries.get_registry(conn, scope, registry_id))
    return conditional_response({"data": serialize_registry(registry)})
