-- Takes a scan's findings as a stream of rows.
COPY findings (
    organization_id, scan_id, position, vulnerability_id, package, installed_version,
    fixed_version, severity, cvss_score, title, url, sources
) FROM STDIN
