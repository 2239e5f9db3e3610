-- Delete some audit entries that were recorded before a time; return the number.
DELETE FROM audit_log
WHERE organization_id = %(organization_id)s
    AND id IN (
        SELECT entry.id
        FROM audit_log AS entry
        WHERE entry.organization_id = %(organization_id)s AND entry.created_at < %(since)s
        ORDER BY entry.created_at, entry.id
        LIMIT %(limit)s
    )
