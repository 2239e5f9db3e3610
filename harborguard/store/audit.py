"""The audit log: record an action, and list the recorded ones (contract 8.6)."""

from harborguard.listing import AuditCriteria, AuditEntry, Listing, Page
from harborguard.model import Action, Actor
from harborguard.store.connection import Connection
from harborguard.store.images.details import without_total
from harborguard.store.statements import STATEMENTS


def record_action(
    conn: Connection, organization_id: str, actor: Actor, action: Action, *targets: str
) -> None:
    """Record that an actor did something to targets, such as `apikey/key-3f2a9c0d71e84b55`.

    Call it in the transaction of the change, so that both are stored or neither is.
    """
    parameters = {
        "organization_id": organization_id,
        "actor": actor.name,
        "action": action.value,
        "targets": list(targets),
        "ip": actor.ip,
    }
    conn.execute(STATEMENTS["record_action"], parameters)


def list_actions(
    conn: Connection, organization_id: str, criteria: AuditCriteria, page: Page
) -> Listing[AuditEntry]:
    """Return a page of an organization's audit log, the newest entry first."""
    parameters = {
        "organization_id": organization_id,
        "actor": criteria.actor,
        "actions": [action.value for action in criteria.actions],
        "since": criteria.since,
        "until": criteria.until,
        "limit": page.size,
        "offset": page.offset,
    }
    rows = conn.execute(STATEMENTS["list_actions"], parameters).fetchall()
    return Listing([AuditEntry._make(row) for row in without_total(rows)], rows[0][0])
