-- Delete some audit entries that were recorded before a time, the oldest first. With an array instead
-- of a join, both parts are index scans.
DELETE FROM audit_log
WHERE organization_id = %(organization_id)s
    AND id = ANY (
        ARRAY(
            SELECT entry.id
            FROM audit_log AS entry
            WHERE entry.organization_id = %(organization_id)s AND entry.created_at < %(since)s
            ORDER BY entry.created_at, entry.id
            LIMIT %(limit)s
        )
    )
