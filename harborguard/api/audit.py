"""GET /api/audit-log: the recorded actions of an organization (contract 8.6)."""

from typing import Any

from flask import Blueprint, g, request

from harborguard.api.auth import require_one_of
from harborguard.api.openapi import documented
from harborguard.api.pagination import page_of, page_response
from harborguard.api.queries import ListAuditLogQuery, parse_query
from harborguard.api.responses import AuditEntryResponse, serialize_audit_entry
from harborguard.api.services import read
from harborguard.errors import Forbidden
from harborguard.model import Role
from harborguard.store.audit import list_actions

blueprint = Blueprint("audit", __name__, url_prefix="/audit-log")

_QUERY = ListAuditLogQuery()


@blueprint.get("")
@require_one_of(Role.OWNER, Role.ADMIN, Role.AUDITOR)
@documented(tag="audit", query=ListAuditLogQuery, responses={200: page_of(AuditEntryResponse)})
def list_audit_log() -> dict[str, Any]:
    """List the recorded actions, the newest first.

    A key that is limited to a registry is rejected with 403. Uploads are not recorded here, because
    each scan is its own record.
    """
    scope = g.principal.scope
    if scope.registry_id is not None:
        raise Forbidden("The key is limited to a registry. The audit log is of the organization.")
    criteria, page = parse_query(_QUERY, request.args)
    listing = read(lambda conn: list_actions(conn, scope.organization_id, criteria, page))
    rows = [serialize_audit_entry(entry) for entry in listing.items]
    return page_response(rows, listing.total, page, _QUERY.to_parameters(criteria, page))
