-- Remove a scan from the current scans of its image; return its set of findings.
DELETE FROM scan_findings
WHERE organization_id = %(organization_id)s
    AND image_id = %(image_id)s
    AND scan_id = %(scan_id)s
RETURNING set_id
