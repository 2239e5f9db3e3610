"""The views under /api/images: the list, its summary, one image, its tags and its findings."""

from functools import lru_cache

from flask import Blueprint, Response, g, request

from harborguard.api.auth import current_actor, require
from harborguard.api.conditional import (
    BODY_ETAG,
    CONDITION,
    conditional_response,
    is_conditional,
    make_etag,
    matches_request,
    not_modified,
)
from harborguard.api.openapi import documented
from harborguard.api.pagination import (
    LinkBuilder,
    make_link_builder,
    page_of,
    page_response,
    serialize_page,
)
from harborguard.api.queries import (
    ListFindingsQuery,
    ListImagesQuery,
    ListTagsQuery,
    LookUpImageQuery,
    SummarizeImagesQuery,
    parse_query,
)
from harborguard.api.responses import (
    ImageDetailsResponse,
    ImageResponse,
    ImageVerdictResponse,
    SummaryResponse,
    TagResponse,
    VulnerabilityResponse,
    data_of,
    json_response,
    no_content,
    serialize_image,
    serialize_image_details,
    serialize_summary,
    serialize_tag,
    serialize_verdict,
    serialize_vulnerability,
)
from harborguard.api.services import connection, read
from harborguard.listing import ImageCriteria, Page
from harborguard.model import Role
from harborguard.store import deletion
from harborguard.store.errors import retry_once
from harborguard.store.images import details, findings, lookup, summary
from harborguard.store.images import list as image_list

blueprint = Blueprint("images", __name__, url_prefix="/images")

_LIST_QUERY = ListImagesQuery()
_SUMMARY_QUERY = SummarizeImagesQuery()
_TAGS_QUERY = ListTagsQuery()
_FINDINGS_QUERY = ListFindingsQuery()
_LOOKUP_QUERY = LookUpImageQuery()
_IMAGE_ID = {"image_id": "The `id` of an image in the list."}


@lru_cache(maxsize=256)
def parse_current_query(
    cache_key: bytes,  # noqa: ARG001
) -> tuple[ImageCriteria, Page, LinkBuilder, str]:
    """Return the criteria, page, link builder and ignored parameters of the current request.

    Polling clients repeat a few query strings, so the results are cached. Errors are not.
    `cache_key` is `request.query_string`, which `request.args` decodes.
    """
    criteria, page = parse_query(_LIST_QUERY, request.args)
    parameters = _LIST_QUERY.to_parameters(criteria, page)
    return criteria, page, make_link_builder(request.path, parameters), g.ignored_parameters


@blueprint.get("")
@require(Role.VIEWER)
@documented(
    tag="images",
    query=ListImagesQuery,
    request_headers=CONDITION,
    responses={200: page_of(ImageResponse), 304: None},
    response_headers={"ETag": "Changes with the inventory, the query and the release."},
)
def list_images() -> Response:
    """List images.

    A row is one image: a unique registry and name, independent of any tag or scan.
    """
    criteria, page, link_to, g.ignored_parameters = parse_current_query(request.query_string)
    self_link = link_to(page.number)
    scope = g.principal.scope
    # Matches that change with time have no ETag, because the version does not change with them.
    has_etag = not criteria.depends_on_clock
    if has_etag and is_conditional():
        version = read(lambda conn: image_list.find_inventory_version(conn, scope))
        etag = make_etag(scope, version, self_link)
        if matches_request(etag):
            return not_modified(etag)
    listing = read(lambda conn: image_list.list_images(conn, scope, criteria, page))
    rows = [serialize_image(image) for image in listing.items]
    g.rows = len(rows)
    response = json_response(serialize_page(rows, listing.total, page, link_to))
    if has_etag:
        response.set_etag(make_etag(scope, listing.version, self_link))
    return response


@blueprint.get("/summary")
@require(Role.VIEWER)
@documented(
    tag="images",
    query=SummarizeImagesQuery,
    request_headers=CONDITION,
    responses={200: data_of(SummaryResponse), 304: None},
    response_headers=BODY_ETAG,
)
def summarize_images() -> Response:
    """Count the matching images: in total, by grade, by registry, and those never scanned."""
    criteria = parse_query(_SUMMARY_QUERY, request.args)
    scope = g.principal.scope
    counts = read(lambda conn: summary.count_images(conn, scope, criteria))
    return conditional_response({"data": serialize_summary(counts)})


@blueprint.get("/<image_id>")
@require(Role.VIEWER)
@documented(
    tag="images",
    path_parameters=_IMAGE_ID,
    request_headers=CONDITION,
    responses={200: data_of(ImageDetailsResponse), 304: None},
    response_headers=BODY_ETAG,
    errors=[404],
)
def get_image(image_id: str) -> Response:
    """Return an image with its registry, its last scan and the other compared scans."""
    scope = g.principal.scope
    image = read(lambda conn: details.get_image(conn, scope, image_id))
    return conditional_response({"data": serialize_image_details(image)})


@blueprint.delete("/<image_id>")
@require(Role.ADMIN)
@documented(tag="images", path_parameters=_IMAGE_ID, responses={204: None}, errors=[404])
def delete_image(image_id: str) -> Response:
    """Delete an image with its tags, scans and findings.

    A later report or sync of the image adds it again, with another id.
    """
    scope, actor = g.principal.scope, current_actor()
    retry_once(lambda: deletion.delete_image(connection(), scope, image_id, actor=actor))
    return no_content()


@blueprint.get("/<image_id>/tags")
@require(Role.VIEWER)
@documented(
    tag="images",
    path_parameters=_IMAGE_ID,
    query=ListTagsQuery,
    request_headers=CONDITION,
    responses={200: page_of(TagResponse), 304: None},
    response_headers=BODY_ETAG,
    errors=[404],
)
def list_tags(image_id: str) -> Response:
    """List an image's tags, the latest first."""
    criteria, page = parse_query(_TAGS_QUERY, request.args)
    scope = g.principal.scope
    listing = read(lambda conn: details.list_tags(conn, scope, image_id, page))
    rows = [serialize_tag(tag) for tag in listing.items]
    parameters = _TAGS_QUERY.to_parameters(criteria, page)
    return conditional_response(page_response(rows, listing.total, page, parameters))


@blueprint.get("/<image_id>/vulnerabilities")
@require(Role.VIEWER)
@documented(
    tag="images",
    path_parameters=_IMAGE_ID,
    query=ListFindingsQuery,
    request_headers=CONDITION,
    responses={200: page_of(VulnerabilityResponse), 304: None},
    response_headers=BODY_ETAG,
    errors=[404, 410],
)
def list_vulnerabilities(image_id: str) -> Response:
    """List the findings of an image's last scan, by default the worst first."""
    criteria, page = parse_query(_FINDINGS_QUERY, request.args)
    principal = g.principal
    listing = read(
        lambda conn: findings.list_findings(
            conn, principal.scope, image_id, criteria=criteria, page=page, caller=principal.id
        )
    )
    rows = [serialize_vulnerability(finding) for finding in listing.items]
    parameters = _FINDINGS_QUERY.to_parameters(criteria, page)
    return conditional_response(page_response(rows, listing.total, page, parameters))


@blueprint.get("/lookup")
@require(Role.VIEWER)
@documented(
    tag="images",
    query=LookUpImageQuery,
    request_headers=CONDITION,
    responses={200: data_of(ImageVerdictResponse), 304: None},
    response_headers=BODY_ETAG,
    errors=[404],
)
def look_up_image() -> Response:
    """Return the image that a reference names, and the scan that counts for its digest.

    A tag stands for its current digest. `scan` is null if no finished scan is of that digest. An
    image, a tag or a digest that is not in the inventory gives 404.
    """
    reference = parse_query(_LOOKUP_QUERY, request.args)
    scope = g.principal.scope
    verdict = read(lambda conn: lookup.get_verdict(conn, scope, reference))
    return conditional_response({"data": serialize_verdict(reference, verdict)})
