-- Insert a registry, or update the name and provider of an existing one if they are not null. The
-- default provider replaces `generic`, the provider of a registry inserted for a scan report.
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
RETURNING id, name
