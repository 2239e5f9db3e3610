-- Count the audit entries that were recorded before a time.
SELECT count(*)
FROM audit_log
WHERE organization_id = %(organization_id)s AND created_at < %(since)s
