-- Copy the findings of a scan.
COPY findings (
    organization_id, scan_id, position, vulnerability_id, package, installed_version,
    fixed_version, severity, cvss_score, epss, kev, title, url, sources
) FROM STDIN
