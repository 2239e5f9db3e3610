"""The image that a reference names, and the scan that counts for its digest or tag."""

from typing import LiteralString

from harborguard.errors import NotFound
from harborguard.listing import ImageSummary, ImageVerdict, ScanVerdict
from harborguard.model import Reference, Scope
from harborguard.store.connection import Connection
from harborguard.store.images.columns import IMAGE_COLUMNS, iso_time, row_by_key

_SUMMARY = len(ImageSummary._fields)

# The scans of a digest. BETWEEN and ORDER BY make the plan use scans_image_idx, even if it was made
# while the tables were small.
_SCANS_OF_DIGEST: LiteralString = """
            SELECT *
            FROM scans
            WHERE scans.organization_id = %(organization_id)s
                AND scans.image_id BETWEEN image.id AND image.id
                AND scans.digest BETWEEN requested.digest AND requested.digest
            ORDER BY scans.image_id, scans.digest
            OFFSET 0"""
# The scans of a digest are compared like those of a tag (contract 6.6): its newest finished scan,
# and of each set of scanners the newest one of the 24 hours before it. compared_scans is called
# only if the digest is unknown. EXISTS in place of a subquery with LIMIT would become a hashed
# subplan, which reads the rows of all images.
FIND_VERDICT: LiteralString = f"""
SELECT
    {IMAGE_COLUMNS},
    requested.digest,
    scan.id,
    scan.status,
    scan.scanners,
    {iso_time("scan.finished_at")},
    scan.risk_score,
    scan.grade,
    scan.critical,
    scan.high,
    scan.medium,
    scan.low
FROM ({row_by_key("images", "name", "%(name)s")}
) AS image
LEFT JOIN LATERAL (
    SELECT current_tags.name, current_tags.digest
    FROM current_tags
    WHERE current_tags.organization_id = %(organization_id)s
        AND current_tags.image_id = image.id
        AND current_tags.name = %(tag)s
    LIMIT 1
) AS tag ON true
CROSS JOIN LATERAL (SELECT coalesce(%(digest)s, tag.digest) AS digest) AS requested
LEFT JOIN LATERAL (
    SELECT *
    FROM (
        SELECT DISTINCT ON (recent.scanners)
            recent.id,
            recent.status,
            recent.scanners,
            recent.finished_at,
            recent.external_id,
            recent.risk_score,
            recent.grade,
            recent.critical,
            recent.high,
            recent.medium,
            recent.low
        FROM (
            SELECT of_digest.*, max(of_digest.finished_at) OVER () AS newest_finished_at
            FROM ({_SCANS_OF_DIGEST}
            ) AS of_digest
            WHERE of_digest.is_finished
        ) AS recent
        WHERE recent.finished_at >= recent.newest_finished_at - interval '24 hours'
        ORDER BY recent.scanners, recent.finished_at DESC, recent.external_id DESC
    ) AS compared
    UNION ALL
    SELECT
        id, status, scanners, finished_at, NULL, risk_score, grade, critical, high, medium, low
    FROM compared_scans(%(organization_id)s, image.id, %(tag)s)
    WHERE rank = 1 AND requested.digest IS NULL
    ORDER BY risk_score DESC, finished_at DESC, external_id DESC
    LIMIT 1
) AS scan ON true
WHERE (%(registry_id)s::text IS NULL OR image.registry_id = %(registry_id)s)
    AND (%(tag)s::text IS NULL OR tag.name IS NOT NULL)
    AND (
        %(digest)s::text IS NULL
        OR scan.id IS NOT NULL
        OR (
            SELECT true
            FROM ({_SCANS_OF_DIGEST}
            ) AS unfinished
            LIMIT 1
        )
        OR (
            SELECT true
            FROM tags
            WHERE tags.organization_id = %(organization_id)s
                AND tags.image_id = image.id
                AND tags.digest = %(digest)s
            ORDER BY tags.name
            LIMIT 1
        )
    )
"""


def get_verdict(conn: Connection, scope: Scope, reference: Reference) -> ImageVerdict:
    """Return the image that a reference names, and the scan that counts (contract 8.12).

    Raise NotFound if the scope has no such image, or the image no such tag or digest.
    """
    parameters = {
        "organization_id": scope.organization_id,
        "registry_id": scope.registry_id,
        "name": reference.name,
        "tag": reference.tag,
        "digest": reference.digest,
    }
    for row in conn.fetch(FIND_VERDICT, parameters):
        digest, *scan = row[_SUMMARY:]
        return ImageVerdict(
            ImageSummary._make(row[:_SUMMARY]),
            digest,
            ScanVerdict._make(scan) if scan[0] else None,
        )
    raise NotFound("Image not found.")
