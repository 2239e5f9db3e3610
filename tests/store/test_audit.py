"""The audit log: each entry is stored with the change that it describes, and listed in order."""

from datetime import UTC, datetime, timedelta

import pytest

from harborguard.listing import AuditCriteria, AuditEntry, Page
from harborguard.model import Action, Actor
from harborguard.store.audit import list_actions, record_action
from harborguard.store.connection import Connection

OPERATOR = Actor("cli:operator")
CALLER = Actor("apikey:key-1", "192.0.2.7")


def entries(conn: Connection, organization_id: str) -> list[AuditEntry]:
    """Return the newest 200 entries of an organization."""
    return list_actions(conn, organization_id, AuditCriteria(), Page(1, 200)).items


def forget(conn: Connection) -> None:
    """Empty the audit log, so that it has no entries of the set-up."""
    conn.execute("TRUNCATE audit_log")


def test_recorded_action_is_listed_with_all_fields(conn: Connection, acme: str) -> None:
    forget(conn)
    before = datetime.now(UTC) - timedelta(seconds=1)
    record_action(conn, acme, CALLER, Action.IMAGE_DELETED, "image/img-1")
    [entry] = entries(conn, acme)
    assert entry == AuditEntry(
        entry.id, acme, "apikey:key-1", "image.deleted", "image/img-1", "192.0.2.7",
        entry.created_at,
    )  # fmt: skip
    assert entry.id.startswith("aud-")
    assert before < datetime.fromisoformat(entry.created_at) < before + timedelta(seconds=60)


def test_entry_of_a_command_has_no_address(conn: Connection, acme: str) -> None:
    forget(conn)
    record_action(conn, acme, OPERATOR, Action.IMAGE_DELETED, "image/img-1")
    assert [entry.ip for entry in entries(conn, acme)] == [None]


def test_entries_of_one_transaction_are_listed_in_reverse_order(
    conn: Connection, acme: str
) -> None:
    forget(conn)
    targets = [f"image/img-{number}" for number in range(20)]
    with conn.transaction():
        for target in targets:
            record_action(conn, acme, OPERATOR, Action.IMAGE_DELETED, target)
    assert [entry.target for entry in entries(conn, acme)] == targets[::-1]


def test_action_is_rolled_back_with_its_transaction(conn: Connection, acme: str) -> None:
    forget(conn)
    with conn.transaction(force_rollback=True):
        record_action(conn, acme, OPERATOR, Action.IMAGE_DELETED, "image/img-1")
        assert len(entries(conn, acme)) == 1
    assert entries(conn, acme) == []


@pytest.mark.parametrize("column", ["actor", "action", "target"])
def test_empty_text_is_rejected(conn: Connection, acme: str, column: str) -> None:
    record_action(conn, acme, OPERATOR, Action.IMAGE_DELETED, "image/img-1")
    with pytest.raises(Exception, match=f"audit_log_{column}_check"):
        conn.execute(f"UPDATE audit_log SET {column} = ''".encode())
