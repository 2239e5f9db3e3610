-- Delete a scan. Return what it observed: tag, digest, and whether it was finished.
DELETE FROM scans
WHERE organization_id = %(organization_id)s AND id = %(scan_id)s
RETURNING tag, digest, is_finished
