-- Change the name and provider of a registry if they are not null. The default provider replaces
-- `generic`, the provider of a new registry.
UPDATE registries
SET name = coalesce(%(name)s, name),
    provider = coalesce(%(provider)s, nullif(provider, 'generic'), %(default_provider)s)
WHERE organization_id = %(organization_id)s AND host = %(host)s
RETURNING id, name, provider
