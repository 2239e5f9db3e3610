"""What lies behind a row of the list: the image, its tags, its vulnerabilities; and the summary."""

from typing import Any

from flask import Blueprint, g, request

from harborguard.api.auth import require
from harborguard.api.detail_schemas import (
    ListFindingsQuery,
    ListTagsQuery,
    SummarizeImagesQuery,
    dump_counts,
    dump_details,
    dump_finding,
    dump_finding_criteria,
    dump_tag,
)
from harborguard.api.pagination import envelope, make_link
from harborguard.api.schemas import parse_query
from harborguard.api.services import read
from harborguard.model import Role
from harborguard.store.images.details import get_image as find_image
from harborguard.store.images.details import list_tags as find_tags
from harborguard.store.images.findings import list_findings
from harborguard.store.images.summary import count_images

blueprint = Blueprint("details", __name__, url_prefix="/images")

_SUMMARY_QUERY = SummarizeImagesQuery()
_TAGS_QUERY = ListTagsQuery()
_FINDINGS_QUERY = ListFindingsQuery()


@blueprint.get("/summary")
@require(Role.VIEWER)
def summarize_images() -> dict[str, Any]:
    """How many images match: by grade, by registry, never scanned."""
    criteria = parse_query(_SUMMARY_QUERY, request.args)
    scope = g.principal.scope
    counts = read(lambda conn: count_images(conn, scope, criteria))
    return {"data": dump_counts(counts)}


@blueprint.get("/<image_id>")
@require(Role.VIEWER)
def get_image(image_id: str) -> dict[str, Any]:
    """One image, with its registry and its last scan."""
    scope = g.principal.scope
    return {"data": dump_details(read(lambda conn: find_image(conn, scope, image_id)))}


@blueprint.get("/<image_id>/tags")
@require(Role.VIEWER)
def list_tags(image_id: str) -> dict[str, Any]:
    """An image's tags, newest first."""
    page = parse_query(_TAGS_QUERY, request.args)
    scope = g.principal.scope
    tags, total, _ = read(lambda conn: find_tags(conn, scope, image_id, page))
    g.rows = len(tags)
    rows = [dump_tag(tag) for tag in tags]
    return envelope(rows, total, page, make_link(request.path, page))


@blueprint.get("/<image_id>/vulnerabilities")
@require(Role.VIEWER)
def list_vulnerabilities(image_id: str) -> dict[str, Any]:
    """The findings behind an image's counts, filtered, searched, sorted."""
    criteria, page = parse_query(_FINDINGS_QUERY, request.args)
    scope = g.principal.scope
    findings, total, _ = read(
        lambda conn: list_findings(conn, scope, image_id, criteria=criteria, page=page)
    )
    g.rows = len(findings)
    rows = [dump_finding(finding) for finding in findings]
    link = make_link(request.path, page, dump_finding_criteria(criteria))
    return envelope(rows, total, page, link)
