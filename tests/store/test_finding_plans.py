"""The plans of queries over findings: made while tables are empty, they suit large ones too."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, LiteralString

import pytest
from psycopg import sql

from harborguard.config import Config
from harborguard.listing import (
    ImageCriteria,
    Page,
    Sort,
    SortKey,
    VulnerabilityCriteria,
    VulnerabilitySort,
    VulnerabilitySortKey,
)
from harborguard.model import Scope
from harborguard.store.connection import Connection
from harborguard.store.images.filters import ImageFilters
from harborguard.store.images.query import ImageQuery
from harborguard.store.images.summary import make_summary_query
from harborguard.store.images.vulnerabilities import VulnerabilityQuery
from harborguard.store.statements import STATEMENTS
from tests.support.postgres import migrated_database, pool_connection
from tests.support.tenants import with_names

# 20,000 images with ten findings each. 20 of the findings are of CVE-7, and one image has two sets.
IMAGES, AFFECTED = 20_000, 20
FILL: list[LiteralString] = [
    with_names(
        f"""
        INSERT INTO images (
            organization_id, id, registry_id, name, risk_score, grade, scan_id, set_id,
            last_scanned_at
        )
        SELECT 'org-1', 'img-' || n, 'reg-1', 'a.test/' || n, 10, 'A', 'scan-' || n, n, now()
        FROM generate_series(1, {IMAGES}) AS n
        """
    ),  # pyright: ignore[reportAssignmentType]
    f"""
    INSERT INTO finding_sets (organization_id, image_id, sha256, id)
    OVERRIDING SYSTEM VALUE
    SELECT 'org-1', 'img-' || n, sha256(n::text::bytea), n
    FROM generate_series(1, {IMAGES}) AS n
    """,
    f"""
    INSERT INTO findings (
        organization_id, set_id, position, vulnerability_id, package, installed_version, severity,
        sources
    )
    SELECT
        'org-1', n, k, 'CVE-' || (n * 10 + k) % {IMAGES * 10 // AFFECTED},
        CASE WHEN k = 0 THEN 'openssl' ELSE 'p' || (n * 10 + k) % 5000 END, '1', 'LOW', '{{trivy}}'
    FROM generate_series(1, {IMAGES}) AS n, generate_series(0, 9) AS k
    """,
    f"""
    INSERT INTO scans (
        organization_id, id, image_id, external_id, content_sha256, scanners, status, finished_at,
        critical, high, medium, low, risk_score, grade
    )
    SELECT
        'org-1', 'scan-' || n, 'img-' || n, n, sha256('x'), '{{trivy}}', 'SUCCESS', now(),
        0, 0, 0, 10, 10, 'A'
    FROM generate_series(1, {IMAGES}) AS n
    """,
    f"SELECT setval(pg_get_serial_sequence('finding_sets', 'id'), {IMAGES})",
    "INSERT INTO inventories (organization_id) VALUES ('org-1') ON CONFLICT DO NOTHING",
]
SCOPE = Scope("org-1")
CVE = ImageCriteria(cve_id="cve-7")
BY_CVE = VulnerabilityCriteria(cve_id="cve-7")
BY_TIME = VulnerabilitySort(VulnerabilitySortKey.DETECTED_AT, descending=True)
FINDING, SET, IMAGE, SCAN = (
    {"findings_vulnerability_idx"},
    {"finding_sets_id_idx"},
    {"images_pkey"},
    {"scans_pkey"},
)
LIST = {"findings": FINDING, "finding_sets": SET, "images": IMAGE}
PAGE = {**LIST, "findings": {*FINDING, "findings_pkey"}, "scans": SCAN}
BY_PACKAGE = {"findings": {"findings_package_idx"}}
# The statement, the indexes by table, and the most rows that it may read from tables.
QUERIES: dict[str, tuple[tuple[LiteralString, Any], dict[str, set[str]], int]] = {
    "list": (ImageQuery(SCOPE, CVE).window(Page()), LIST, 5 * AFFECTED),
    "list with other filters": (
        ImageQuery(
            SCOPE,
            replace(
                CVE,
                search="a",
                risk_score=1,
                registry="a",
                is_fixable=False,
                sort=Sort(SortKey.RISK_SCORE, descending=True),
            ),
        ).window(Page()),
        {**LIST, "registries": {"registries_pkey", "registries_organization_id_host_key"}},
        6 * AFFECTED,
    ),
    "list of a common package": (
        ImageQuery(SCOPE, replace(CVE, package="openssl")).window(Page()),
        LIST,
        5 * AFFECTED,
    ),
    "list by package": (
        ImageQuery(SCOPE, ImageCriteria(package="P7")).window(Page()),
        {**LIST, **BY_PACKAGE},
        500,
    ),
    "count": (ImageQuery(SCOPE, CVE).count(), LIST, 5 * AFFECTED),
    "summary": (
        make_summary_query(ImageFilters(SCOPE, CVE), use_counters=False),
        {**LIST, "registries": {"registries_pkey", "registries_organization_id_host_key"}},
        5 * AFFECTED,
    ),
    "vulnerabilities": (VulnerabilityQuery(SCOPE, BY_CVE).page(Page()), PAGE, 6 * AFFECTED),
    "vulnerabilities by time": (
        VulnerabilityQuery(SCOPE, replace(BY_CVE, sort=BY_TIME)).page(Page()),
        PAGE,
        7 * AFFECTED,
    ),
    "vulnerabilities of a package": (
        VulnerabilityQuery(SCOPE, VulnerabilityCriteria(package="p7")).page(Page()),
        {**PAGE, "findings": {"findings_package_idx", "findings_pkey"}},
        800,
    ),
    "vulnerabilities of an image": (
        VulnerabilityQuery(SCOPE, VulnerabilityCriteria(image="A.test/77", cve_id="x")).page(
            Page()
        ),
        {"findings": {"findings_pkey"}},
        20,
    ),
    "sets of recording": (
        (
            STATEMENTS["keep_findings"],
            {"organization_id": "org-1", "scan_id": "scan-7", "sha256": b"x" * 32},
        ),
        {},
        20,
    ),
    "deleted set": (
        (
            STATEMENTS["delete_findings"],
            {"organization_id": "org-1", "set_ids": [7]},
        ),
        {"findings": {"findings_pkey"}},
        40,
    ),
}


@pytest.fixture(scope="module", params=[True, False], ids=["analyzed", "planned while empty"])
def database(request: pytest.FixtureRequest, server_url: str) -> Iterator[Connection]:
    """Yield a connection whose prepared statements were planned before the tables were filled.

    ANALYZE makes PostgreSQL plan them again.
    """
    with migrated_database(server_url) as url, pool_connection(Config(database_url=url)) as conn:
        conn.execute("SET statement_timeout = 0")
        conn.execute("INSERT INTO organizations (id, name) VALUES ('org-1', 'a')")
        conn.execute(
            "INSERT INTO registries (organization_id, id, host, name)"
            " VALUES ('org-1', 'reg-1', 'a.test', 'a')"
        )
        for table in ("images", "findings", "finding_sets", "scans"):
            conn.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        for number, ((text, parameters), _, _) in enumerate(QUERIES.values()):
            names = list(parameters)
            numbered = re.sub(r"%\((\w+)\)s", lambda m: f"${names.index(m[1]) + 1}", text)  # noqa: B023
            conn.execute(f"PREPARE query_{number} AS {numbered}".encode(), prepare=False)
            explain(conn, number, parameters)
        for statement in FILL:
            conn.execute(statement)
        if request.param:
            conn.execute("VACUUM (ANALYZE)")
        yield conn


def explain(conn: Connection, number: int, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Execute a prepared statement; return the nodes of its generic plan."""
    query = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {} ({})").format(
        sql.Identifier(f"query_{number}"), sql.SQL(", ").join(map(sql.Literal, parameters.values()))
    )
    row = conn.execute(query, prepare=False).fetchone()
    assert row is not None
    pending, nodes = [row[0][0]["Plan"]], []
    while pending:
        node = pending.pop()
        pending += node.get("Plans", [])
        nodes.append(node)
    return nodes


@pytest.mark.parametrize("name", QUERIES)
def test_query_over_findings_reads_few_rows_by_its_indexes(database: Connection, name: str) -> None:
    number = list(QUERIES).index(name)
    (_, parameters), indexes, most = QUERIES[name]
    nodes = explain(database, number, parameters)
    scans = [node for node in nodes if "Relation Name" in node or "Index Name" in node]
    executed = [node for node in scans if node["Actual Loops"] > 0]
    read = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in executed
    )
    assert read <= most
    for table, expected in indexes.items():
        used = {node["Index Name"] for node in scans_of(executed, table)}
        assert used <= expected, table


def scans_of(nodes: list[dict[str, Any]], table: str) -> list[dict[str, Any]]:
    """Return the nodes that use an index of a table."""
    return [node for node in nodes if node.get("Index Name", "").startswith(f"{table}_")]


def test_query_finds_the_affected_images(database: Connection) -> None:
    """Otherwise few rows would be read because nothing matches."""
    number = list(QUERIES).index("vulnerabilities")
    nodes = explain(database, number, QUERIES["vulnerabilities"][0][1])
    assert nodes[0]["Actual Rows"] == AFFECTED
