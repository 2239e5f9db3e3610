"""The statements of prune read only the rows of their window, in tables of 100,000 images."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, LiteralString

import pytest
from psycopg import sql

from harborguard.config import Config
from harborguard.store.connection import Connection, connect
from harborguard.store.statements import STATEMENTS
from tests.support.postgres import migrated_database

FILL: list[LiteralString] = [
    "INSERT INTO organizations (id, name) VALUES ('org-1', 'a')",
    """
    INSERT INTO registries (organization_id, id, host, name)
    VALUES ('org-1', 'reg-1', 'a.test', 'a')
    """,
    """
    WITH image AS (
        INSERT INTO images (organization_id, id, registry_id, name, created_at)
        SELECT 'org-1', to_char(n, 'FM000000'), 'reg-1', 'a.test/' || n, '2026-01-01'
        FROM generate_series(1, 100000) AS n
        RETURNING organization_id, name, registry_id
    )
    INSERT INTO image_names (organization_id, name, registry_id)
    SELECT organization_id, name, registry_id
    FROM image
    """,
    """
    INSERT INTO tags (
        organization_id, id, image_id, name, digest, is_confirmed, is_synced, first_observed_at,
        last_observed_at
    )
    SELECT
        'org-1', id || k, id, 'tag', 'sha256:' || k, true, true, '2026-01-01',
        timestamptz '2026-01-01' + k * interval '1 day'
    FROM images, generate_series(0, 1) AS k
    """,
    """
    INSERT INTO scans (
        organization_id, id, image_id, external_id, content_sha256, tag, scanners, status,
        finished_at, recorded_at, critical, high, medium, low, risk_score, grade
    )
    SELECT
        'org-1', id || k, id, id || k, sha256('x'), 'tag', '{trivy}', 'SUCCESS',
        timestamptz '2026-01-01' + k * interval '1 day', '2026-01-01', 0, 0, 0, 0, 0, 'A'
    FROM images, generate_series(0, 1) AS k
    """,
    """
    INSERT INTO finding_sets (organization_id, image_id, sha256)
    SELECT organization_id, id, sha256('x')
    FROM images
    """,
    """
    INSERT INTO scan_findings (organization_id, image_id, tag_key, scan_id, set_id)
    SELECT organization_id, image_id, 'tag', image_id || 1, id
    FROM finding_sets
    """,
    """
    INSERT INTO findings (
        organization_id, set_id, position, vulnerability_id, package, installed_version, severity,
        sources
    )
    SELECT organization_id, id, 0, 'CVE-2026-1', 'zlib', '1', 'LOW', '{trivy}'
    FROM finding_sets
    """,
    """
    INSERT INTO audit_log (organization_id, actor, action, target, created_at)
    SELECT 'org-1', 'cli:a', 'b', 'c', timestamptz '2026-01-01' + n * interval '1 second'
    FROM generate_series(1, 100000) AS n
    """,
    "ANALYZE",
]
WINDOW = 200
IMAGES = [f"{number:06}" for number in range(50_000, 50_000 + WINDOW)]
IDS = [f"{image}0" for image in IMAGES]
# The types and values of the parameters.
PARAMETERS: dict[str, tuple[LiteralString, Any]] = {
    "organization_id": ("text", "org-1"),
    "registry_id": ("text", None),
    "after": ("text", "050000"),
    "image_ids": ("text[]", IMAGES),
    "ids": ("text[]", IDS),
    "since": ("timestamptz", datetime(2026, 2, 1, tzinfo=UTC)),
    "keep": ("bigint", 1),
    "limit": ("bigint", WINDOW),
}
# Each of these statements returns or deletes WINDOW rows.
NAMES = [
    "list_image_ids",
    "list_unseen_images",
    "list_old_scans",
    "list_old_observations",
    "lock_images",
    "delete_old_scans",
    "delete_old_observations",
    "delete_old_audit_entries",
    "delete_finding_sets",
    "delete_images",
]


@pytest.fixture(scope="module")
def database(server_url: str) -> Iterator[Connection]:
    """Yield a command's connection to the database."""
    with migrated_database(server_url) as url, connect(Config(database_url=url)) as conn:
        for statement in FILL:
            conn.execute(statement)
        yield conn


def explain(conn: Connection, name: str, plan: str) -> dict[str, Any]:
    """Execute a statement of prune with a custom or generic plan; return the plan."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", STATEMENTS[name])))
    text = re.sub(r"%\((\w+)\)s", lambda match: f"${names.index(match[1]) + 1}", STATEMENTS[name])
    types = ", ".join(PARAMETERS[parameter][0] for parameter in names)
    values = sql.SQL(", ").join(sql.Literal(PARAMETERS[parameter][1]) for parameter in names)
    with conn.transaction(force_rollback=True):
        conn.execute(f"SET LOCAL plan_cache_mode = force_{plan}_plan".encode())
        conn.execute(f"PREPARE pruning ({types}) AS {text}".encode(), prepare=False)
        if name == "delete_images":
            values_by_name = {key: value for key, (_, value) in PARAMETERS.items()}
            conn.execute(STATEMENTS["delete_finding_sets"], values_by_name)
        query = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE pruning ({})").format(values)
        [([explained],)] = conn.execute(query, prepare=False).fetchall()
        conn.execute("DEALLOCATE pruning", prepare=False)
    return explained["Plan"]


def list_nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from list_nodes(child)


@pytest.mark.parametrize("plan", ["custom", "generic"])
@pytest.mark.parametrize("name", NAMES)
def test_statement_reads_the_rows_of_its_window_only(
    database: Connection, name: str, plan: str
) -> None:
    nodes = list(list_nodes(explain(database, name, plan)))
    assert WINDOW in {node["Actual Rows"] for node in nodes}
    for node in nodes:
        assert node["Node Type"] != "Seq Scan", node
        read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        assert read * node["Actual Loops"] <= 4 * WINDOW, node
