"""A new scan with the same score changes no index: its updates are HOT."""

import pytest

from tests.support import reports
from tests.support.recording import DAY, ingest
from tests.support.reports import SCANNED_AT
from tests.support.tenants import Tenants

IMAGES = 80  # they fill several pages
COUNTS = """
SELECT relname, n_tup_upd, n_tup_hot_upd
FROM pg_stat_user_tables
WHERE relname IN ('images', 'image_names', 'tags', 'inventories', 'image_counts')
"""
# Autovacuum's runs in this database so far, and those that are in progress.
AUTOVACUUMS = """
SELECT
    (SELECT sum(autovacuum_count + autoanalyze_count) FROM pg_stat_all_tables),
    (
        SELECT count(*)
        FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'autovacuum worker'
    )
"""


def count_updates(tenants: Tenants) -> dict[str, tuple[int, int]]:
    """Return the numbers of updates and of HOT updates by table."""
    conn = tenants.acme.conn
    conn.execute("SELECT pg_stat_force_next_flush()")
    return {name: (updates, hot) for name, updates, hot in conn.execute(COUNTS)}


def test_updates_of_a_rescan_without_a_new_score_are_hot(tenants: Tenants) -> None:
    def scan_all(days: int) -> None:
        for number in range(IMAGES):
            reference = f"ghcr.io/acme/{number}:1.0"
            finished_at = SCANNED_AT + days * DAY
            scan_id = f"{number}-{days}"
            report = reports.envelope(reference, (0, 1), scan_id=scan_id, finished_at=finished_at)
            ingest(tenants.acme.conn, tenants.acme.organization_id, report)

    def count_autovacuums() -> tuple[int, int]:
        [counts] = tenants.acme.conn.execute(AUTOVACUUMS).fetchall()
        return counts

    scan_all(0)
    # The snapshot of an ANALYZE keeps old versions of rows, so that a page has no room for new ones.
    # Scan again until autovacuum does not run meanwhile.
    for days in range(1, 20):
        autovacuums = count_autovacuums()
        before = count_updates(tenants)
        scan_all(days)
        after = count_updates(tenants)
        if autovacuums[1] == 0 and count_autovacuums() == autovacuums:
            break
    else:
        pytest.fail("autovacuum ran during every round")

    new = {
        name: (after[name][0] - before[name][0], after[name][1] - before[name][1]) for name in after
    }
    assert new["image_names"] == (0, 0)
    for name in ("images", "tags", "inventories"):
        updates, hot = new[name]
        assert updates == IMAGES, name
        assert hot == updates, name
