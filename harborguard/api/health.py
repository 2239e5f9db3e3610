"""Is it alive, is it ready: for supervisors and proxies, without a credential."""

from typing import Any

from flask import Blueprint

from harborguard.api.services import connection
from harborguard.errors import StoreUnavailable
from harborguard.store.migrations import schema_state

blueprint = Blueprint("health", __name__)


@blueprint.get("/health")
def health() -> dict[str, Any]:
    """The process answers."""
    return {"data": {"status": "ok"}}


@blueprint.get("/ready")
def ready() -> dict[str, Any]:
    """The database answers and has the schema this release needs."""
    if schema_state(connection()).pending:
        raise StoreUnavailable("The database's schema is older than this release.")
    return {"data": {"status": "ready"}}
