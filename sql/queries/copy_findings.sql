-- Copy the findings of a set.
COPY findings (
    organization_id, set_id, position, vulnerability_id, package, installed_version,
    fixed_version, severity, cvss_score, epss, kev, title, url, sources
) FROM STDIN
