-- Insert a scan unless the organization has one with this external id; return a row only if
-- inserted.
INSERT INTO scans (
    organization_id, image_id, external_id, content_sha256, tag, digest, scanners, status,
    started_at, finished_at, critical, high, medium, low, risk_score, grade
)
VALUES (
    %(organization_id)s, %(image_id)s, %(external_id)s, %(content_sha256)s, %(tag)s, %(digest)s,
    %(scanners)s, %(status)s, %(started_at)s, %(finished_at)s,
    %(critical)s, %(high)s, %(medium)s, %(low)s, %(risk_score)s, %(grade)s
)
ON CONFLICT (organization_id, external_id) DO NOTHING
RETURNING id
