-- Insert a registry, or update the given name and provider of an existing one. A registry that was
-- inserted by its first report gets its host's default provider.
INSERT INTO registries (organization_id, host, name, provider)
VALUES (
    %(organization_id)s, %(host)s, coalesce(%(name)s, %(host)s),
    coalesce(%(provider)s, %(default_provider)s)
)
ON CONFLICT (organization_id, host) DO UPDATE
SET name = coalesce(%(name)s, registries.name),
    provider = coalesce(
        %(provider)s,
        nullif(registries.provider, 'generic'),
        %(default_provider)s
    )
RETURNING id
