"""Is it alive, is it ready: for supervisors and proxies, without a credential."""

from time import monotonic
from typing import Any

from flask import Blueprint

from harborguard.api.services import read, services
from harborguard.errors import StoreUnavailable
from harborguard.store.migrations import schema_state

blueprint = Blueprint("health", __name__)


@blueprint.get("/health")
def health() -> dict[str, Any]:
    """The process answers."""
    return {"data": {"status": "ok"}}


@blueprint.get("/ready")
def ready() -> dict[str, Any]:
    """The database answers and has the schema this release needs; asked once a second at most."""
    state = services().readiness
    if monotonic() > state.holds_until:
        state.is_current = not read(schema_state).pending
        state.holds_until = monotonic() + 1
    if not state.is_current:
        raise StoreUnavailable("The database's schema is older than this release.")
    return {"data": {"status": "ready"}}
