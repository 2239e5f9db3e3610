-- Store a new API key: the digest of its secret and a prefix that identifies it in lists.
INSERT INTO api_keys (organization_id, name, prefix, sha256, role, registry_id, expires_at)
VALUES (
    %(organization_id)s, %(name)s, %(prefix)s, %(sha256)s, %(role)s, %(registry_id)s,
    %(expires_at)s
)
RETURNING id
