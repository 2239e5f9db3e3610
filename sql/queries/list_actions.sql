-- List a page of the audit log, the newest entry first. Each row begins with the total. A page past
-- the end is one row with the total alone.
WITH match AS (
    SELECT *
    FROM audit_log
    WHERE organization_id = %(organization_id)s
        AND created_at >= coalesce(%(since)s::timestamptz, '-infinity')
        AND created_at < coalesce(%(until)s::timestamptz, 'infinity')
        AND (%(actor)s::text IS NULL OR actor = %(actor)s)
        AND (cardinality(%(actions)s::text[]) = 0 OR action = ANY (%(actions)s))
),
page AS (
    SELECT *
    FROM match
    ORDER BY created_at DESC, id DESC
    LIMIT %(limit)s OFFSET %(offset)s
)
SELECT
    counted.total,
    page.id,
    page.organization_id,
    page.actor,
    page.action,
    page.target,
    page.ip,
    to_char(page.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
FROM (SELECT count(*) AS total FROM match) AS counted
LEFT JOIN page ON true
ORDER BY page.created_at DESC, page.id DESC
