-- Record that tags of an image had these digests at one time. The time range of a row can only grow,
-- so the result does not depend on the order of arrival.
INSERT INTO tags (
    organization_id, image_id, name, digest, is_confirmed, is_synced, built_at,
    first_observed_at, last_observed_at
)
SELECT
    %(organization_id)s, %(image_id)s, observed.name, observed.digest, %(is_confirmed)s,
    %(is_synced)s, observed.built_at, %(observed_at)s, %(observed_at)s
FROM unnest(
    %(names)s::text[], %(digests)s::text[], %(built_at)s::timestamptz[]
) AS observed (name, digest, built_at)
ON CONFLICT (organization_id, image_id, name, digest, is_confirmed) DO UPDATE
SET is_synced = tags.is_synced OR excluded.is_synced,
    built_at = greatest(tags.built_at, excluded.built_at),
    first_observed_at = least(tags.first_observed_at, excluded.first_observed_at),
    last_observed_at = greatest(tags.last_observed_at, excluded.last_observed_at)
