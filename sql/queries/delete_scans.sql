-- Delete scans that are not current.
DELETE FROM scans
WHERE organization_id = %(organization_id)s AND id = ANY (%(scan_ids)s)
