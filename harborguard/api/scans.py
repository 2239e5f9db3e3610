"""POST /api/scans/upload: scanners' reports, recorded."""

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, g, request

from harborguard.api.auth import require
from harborguard.api.request_body import read_json_body
from harborguard.api.schemas import UploadScanQuery, parse_query
from harborguard.api.services import connection, services
from harborguard.errors import HarborGuardError
from harborguard.ingest import ingest_report
from harborguard.model import Role
from harborguard.observability import metrics

blueprint = Blueprint("scans", __name__, url_prefix="/scans")

_QUERY = UploadScanQuery()


@blueprint.post("/upload")
@require(Role.CI, api_key_only=True)
def upload_scan() -> tuple[dict[str, Any], int]:
    """Records a report: 201, or 200 where the same one is recorded already."""
    services().uploads.spend(g.principal.id)
    scope = g.principal.scope
    image = parse_query(_QUERY, request.args)
    body = read_json_body(services().config.max_upload_bytes)
    try:
        recorded = ingest_report(
            connection(),
            scope.organization_id,
            body,
            received_at=datetime.now(UTC),
            image=image,
            registry_id=scope.registry_id,
        )
    except HarborGuardError:
        metrics.count_scan((), "refused")
        raise
    metrics.count_scan(recorded.scanners, "new" if recorded.is_new else "replay")
    answer = {"success": True, "scanId": recorded.scan_id, "imageId": recorded.image_id}
    return answer, 201 if recorded.is_new else 200
