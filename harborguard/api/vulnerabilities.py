"""GET /api/vulnerabilities: the findings of several images (contract 8.15)."""

from flask import Blueprint, Response, g, request

from harborguard.api.auth import require
from harborguard.api.conditional import BODY_ETAG, CONDITION, conditional_response
from harborguard.api.openapi import documented
from harborguard.api.pagination import page_of, page_response
from harborguard.api.queries import ListVulnerabilitiesQuery, parse_query
from harborguard.api.responses import (
    AffectedImageVulnerabilityResponse,
    serialize_affected_image_vulnerability,
)
from harborguard.api.services import read
from harborguard.model import Role
from harborguard.store.images import vulnerabilities

blueprint = Blueprint("vulnerabilities", __name__, url_prefix="/vulnerabilities")

_QUERY = ListVulnerabilitiesQuery()


@blueprint.get("")
@require(Role.VIEWER)
@documented(
    tag="images",
    query=ListVulnerabilitiesQuery,
    request_headers=CONDITION,
    responses={200: page_of(AffectedImageVulnerabilityResponse), 304: None},
    response_headers=BODY_ETAG,
)
def search_vulnerabilities() -> Response:
    """List the findings of images by vulnerability, package or image, by default the worst first.

    At least one of `cveId`, `package` and `image` is required. The findings are those that the
    counts of the images include.
    """
    criteria, page = parse_query(_QUERY, request.args)
    principal = g.principal
    listing = read(
        lambda conn: vulnerabilities.list_vulnerabilities(
            conn, principal.scope, criteria, page, caller=principal.id
        )
    )
    rows = [serialize_affected_image_vulnerability(finding) for finding in listing.items]
    parameters = _QUERY.to_parameters(criteria, page)
    return conditional_response(page_response(rows, listing.total, page, parameters))
