"""The views under /api/scans: record a scan report, delete a scan."""

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, g, request

from harborguard.api.auth import current_actor, require
from harborguard.api.openapi import documented
from harborguard.api.queries import UploadScanQuery, parse_query
from harborguard.api.request_body import read_json_body
from harborguard.api.responses import UploadResponse, no_content, serialize_upload
from harborguard.api.services import connection, services
from harborguard.errors import HarborGuardError, RateLimited
from harborguard.ingest import ingest_report
from harborguard.model import Role
from harborguard.observability import metrics
from harborguard.reports.formats import EXAMPLE, REPORT_SCHEMA
from harborguard.store import deletion
from harborguard.store.errors import retry_once

blueprint = Blueprint("scans", __name__, url_prefix="/scans")

_QUERY = UploadScanQuery()


@blueprint.post("/upload")
@require(Role.CI, api_key_only=True)
@documented(
    tag="scans",
    query=UploadScanQuery,
    body=REPORT_SCHEMA,
    example=EXAMPLE,
    responses={201: UploadResponse, 200: UploadResponse},
    errors=[409, 413, 415],
    new_scans_per_minute=lambda config: config.new_scans_per_minute,
)
def upload_scan() -> tuple[dict[str, Any], int]:
    """Record a scan report.

    The body may be compressed with gzip. The status is 201 if the scan is new. It is 200 if the
    same report is already recorded; the request then changes nothing.
    """
    scope = g.principal.scope
    image = parse_query(_QUERY, request.args)
    body = read_json_body(services().config.max_upload_bytes)
    try:
        scan = ingest_report(
            connection(),
            scope.organization_id,
            body,
            received_at=datetime.now(UTC),
            image=image,
            registry_id=scope.registry_id,
            # A replay does not count, so a pipeline can send all of its reports again.
            before_new=lambda: services().new_scan_limit.consume(g.principal.id),
        )
    except RateLimited:
        # The report can be recorded, but later.
        raise
    except HarborGuardError:
        metrics.count_upload((), "rejected")
        raise
    metrics.count_upload(scan.scanners, "new" if scan.is_new else "replay")
    return serialize_upload(scan), 201 if scan.is_new else 200


@blueprint.delete("/<scan_id>")
@require(Role.ADMIN)
@documented(
    tag="scans",
    path_parameters={"scan_id": "The `scanId` of an upload, or the `id` of `lastScan`."},
    responses={204: None},
    errors=[404],
)
def delete_scan(scan_id: str) -> Response:
    """Delete a scan with its findings, and recompute the row of its image.

    The tag that only this scan observed is deleted too. The image stays, even without scans.
    """
    scope, actor = g.principal.scope, current_actor()
    retry_once(lambda: deletion.delete_scan(connection(), scope, scan_id, actor=actor))
    return no_content()
