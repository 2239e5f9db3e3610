"""Load organizations of 1k, 10k, 100k and 1M images, the same on every run, within a minute."""

from dataclasses import dataclass

from harborguard.model import Role
from harborguard.store.connection import Connection
from harborguard.store.counters import repair_counters
from harborguard.store.organizations import create_organization
from tests.support.tenants import OPERATOR, add_key

SIZES = {"1k": 1_000, "10k": 10_000, "100k": 100_000, "1M": 1_000_000}

REGISTRIES = """
INSERT INTO registries (organization_id, id, host, name)
SELECT
    %(organization_id)s,
    'reg-' || left(md5(n::text), 16),
    'r' || n || '.test',
    'r' || n || '.test'
FROM generate_series(0, 9) AS n
"""

# Ten registries; the last has a thousandth of the images. One image in eight was never scanned.
# Names are as long as real ones. The orders by time, id and name differ.
IMAGES = """
INSERT INTO images (
    organization_id, id, registry_id, name, created_at, tag_count, latest_tag, latest_digest,
    scan_id, risk_score, grade, high, medium, low, last_scanned_at
)
SELECT
    %(organization_id)s,
    'img-' || left(md5(n || 'i'), 16),
    'reg-' || left(md5(registry::text), 16),
    'r' || registry || '.test/' || (ARRAY['api', 'web', 'batch', 'quasar', 'tools'])[1 + n %% 5]
        || '/service-' || lpad((n * 7919 %% 1000003)::text, 7, '0'),
    timestamptz '2026-01-01' + (n * 31337 %% 1000003) * interval '7 seconds',
    1 + n %% 12,
    '1.4.' || n %% 100,
    'sha256:' || md5(n || 'a') || md5(n || 'b'),
    CASE WHEN score IS NOT NULL THEN 'scan-' || left(md5(n || 's'), 16) END,
    score,
    CASE
        WHEN score < 25 THEN 'A' WHEN score < 50 THEN 'B' WHEN score < 75 THEN 'C'
        WHEN score >= 75 THEN 'D'
    END,
    n %% 5,
    n %% 20,
    n %% 30,
    CASE WHEN score IS NOT NULL THEN timestamptz '2026-10-01' + n * interval '1 second' END
FROM generate_series(1::bigint, %(images)s) AS n,
    LATERAL (SELECT CASE WHEN n %% 1000 = 0 THEN 9 ELSE n %% 9 END AS registry) AS r,
    LATERAL (SELECT CASE WHEN n %% 8 > 0 THEN n * 61 %% 101 END AS score) AS s
"""

NAMES = """
INSERT INTO image_names (organization_id, name, registry_id)
SELECT organization_id, name, registry_id
FROM images
WHERE organization_id = %(organization_id)s
"""

CHANGES = """
INSERT INTO image_changes (organization_id, image_id, registry_id, version)
SELECT organization_id, id, registry_id, extract(epoch FROM created_at) * 1000000
FROM images
WHERE organization_id = %(organization_id)s
"""

# What a new scan with the same score changes in the rows of images.
RESCAN = """
UPDATE images
SET scan_id = CASE WHEN scan_id IS NOT NULL THEN 'scan-' || left(md5(id || scan_id), 16) END,
    last_scanned_at = last_scanned_at + interval '1 day'
WHERE organization_id = %(organization_id)s AND id = ANY (%(ids)s)
"""
_BATCH = 1000


@dataclass
class BenchTenant:
    """An organization, the number of its images, and the secret of an API key."""

    organization_id: str
    images: int
    key: str


def load(conn: Connection) -> dict[str, BenchTenant]:
    """Fill an empty, migrated database; return the organizations by size."""
    conn.execute("SET statement_timeout = 0")
    # VACUUM marks a page as all-visible only if its commits were flushed to disk.
    conn.execute("SET synchronous_commit = on")
    # Creating the indexes after the rows is faster: inserting a million random ids takes minutes.
    indexes = conn.execute(
        "SELECT indexname, indexdef FROM pg_indexes"
        " WHERE tablename IN ('images', 'image_names', 'image_changes')"
        " AND indexname LIKE 'image%%idx'"
    ).fetchall()
    for name, _ in indexes:
        conn.execute(f"DROP INDEX {name}".encode())
    tenants = {size: make_tenant(conn, size, images) for size, images in SIZES.items()}
    for _, definition in indexes:
        conn.execute(definition.encode())
    for tenant in tenants.values():
        repair_counters(conn, tenant.organization_id)
    conn.execute("VACUUM (ANALYZE)")
    return tenants


def rescan(conn: Connection, tenants: dict[str, BenchTenant]) -> None:
    """Change all images as new scans with the same scores do, in many transactions."""
    for tenant in tenants.values():
        key = {"organization_id": tenant.organization_id}
        query = "SELECT id FROM images WHERE organization_id = %(organization_id)s ORDER BY id"
        ids = [row[0] for row in conn.execute(query, key)]
        for start in range(0, len(ids), _BATCH):
            conn.execute(RESCAN, {**key, "ids": ids[start : start + _BATCH]})


def make_tenant(conn: Connection, size: str, images: int) -> BenchTenant:
    """Create an organization with images; its counters must be repaired after that."""
    organization_id = create_organization(conn, f"bench-{size}", actor=OPERATOR)
    parameters = {"organization_id": organization_id, "images": images}
    conn.execute(REGISTRIES, parameters)
    with conn.transaction():
        conn.execute(IMAGES, parameters)
        conn.execute(NAMES, parameters)
        conn.execute(CHANGES, parameters)
    _, key = add_key(conn, organization_id, Role.VIEWER)
    return BenchTenant(organization_id, images, key)
