-- Makes the organization's registry with a host, or gives the one that is there what is told: a
-- name, a provider. One that was made on first sight gets its host's usual provider.
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
