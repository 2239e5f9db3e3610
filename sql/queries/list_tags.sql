-- A page of an image's tags, newest first, each row with how many there are; a page past the end is
-- one row with that number alone. A tag's current digest, and which tag is newest, are as in
-- refresh_image_summary.sql; its counts are of the newest finished scan of its name.
WITH tag AS (
    SELECT DISTINCT ON (name)
        name,
        digest,
        is_confirmed,
        coalesce(built_at, first_observed_at) AS digest_made_at,
        last_observed_at
    FROM tags
    WHERE organization_id = %(organization_id)s AND image_id = %(image_id)s
    ORDER BY name, is_confirmed DESC, last_observed_at DESC, digest DESC NULLS LAST
),
page AS (
    SELECT *
    FROM tag
    ORDER BY is_confirmed DESC, digest_made_at DESC, name DESC
    LIMIT %(limit)s OFFSET %(offset)s
),
scan AS (
    SELECT DISTINCT ON (tag) *
    FROM scans
    WHERE organization_id = %(organization_id)s
        AND image_id = %(image_id)s
        AND status IN ('SUCCESS', 'PARTIAL')
        AND tag IN (SELECT name FROM page)
    ORDER BY tag, finished_at DESC, external_id DESC
)
SELECT
    counted.total,
    page.name,
    page.digest,
    to_char(page.digest_made_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS digest_made_at,
    to_char(page.last_observed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS last_observed_at,
    scan.risk_score,
    scan.grade,
    coalesce(scan.critical, 0) AS critical,
    coalesce(scan.high, 0) AS high,
    coalesce(scan.medium, 0) AS medium,
    coalesce(scan.low, 0) AS low,
    to_char(scan.finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS last_scanned_at
FROM (SELECT count(*) AS total FROM tag) AS counted
LEFT JOIN page ON true
LEFT JOIN scan ON scan.tag = page.name
ORDER BY page.is_confirmed DESC, page.digest_made_at DESC, page.name DESC
